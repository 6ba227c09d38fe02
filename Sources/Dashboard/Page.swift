/// The page at `/`: no framework, nothing loaded from elsewhere.
enum Page {
    static let html = #"""
        <!doctype html>
        <html lang="en">
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <title>Slipstream</title>
        <style>
          :root { color-scheme: light dark; --good: #2a9d5c; --fair: #d08a00; --bad: #d0342c; --faint: #8886; }
          body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
          h1 { font-size: 1.3rem; display: inline; margin-right: .6rem; }
          table { border-collapse: collapse; width: 100%; margin-top: 1.2rem; font-variant-numeric: tabular-nums; }
          th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--faint); }
          th { font-weight: 600; }
          .state { padding: .1rem .5rem; border-radius: 1rem; color: #fff; background: var(--bad); }
          .healthy, .up { background: var(--good); }
          .degraded, .detached, .starting, .lags { background: var(--fair); }
          code, .faint { opacity: .75; }
        </style>
        <h1>Slipstream</h1><span id="state" class="state">…</span>
        <p><code id="uri"></code><br><span class="faint" id="time"></span></p>
        <table>
          <thead><tr><th>Node<th>Role<th>Address<th>Weight<th>State<th>Timeline<th>WAL position<th>Lag<th>Replication
          </thead>
          <tbody id="nodes"></tbody>
        </table>
        <p class="faint"><a href="/status">JSON</a> · <a href="/metrics">metrics</a> · <a href="/health">health</a></p>
        <script>
          const byId = id => document.getElementById(id);
          const size = n => n < 1024 ? n + ' B' : n < 1048576 ? (n / 1024).toFixed(1) + ' kB'
            : (n / 1048576).toFixed(1) + ' MB';
          function cell(row, text, mark) {
            const target = row.insertCell();
            const span = target.appendChild(document.createElement('span'));
            span.textContent = text ?? '';
            if (mark) span.className = 'state ' + mark;
          }
          function lag(node) {
            if (node.lag_bytes == null) return '';
            return size(node.lag_bytes) + (node.lag_seconds == null ? '' : ', ' + node.lag_seconds.toFixed(2) + ' s');
          }
          function replication(node) {
            if (node.archive) {
              return 'archive: ' + (node.archive.failing ? 'failing' : node.archive.last_archived ?? 'nothing yet');
            }
            return [node.replication_state, node.slot?.name].filter(Boolean).join(', ');
          }
          async function refresh() {
            try {
              const status = await (await fetch('/status')).json();
              byId('state').textContent = status.state;
              byId('state').className = 'state ' + status.state.replace(' ', '-');
              byId('uri').textContent = status.endpoint.uri;
              byId('time').textContent = status.updated_at;
              const body = byId('nodes');
              body.replaceChildren();
              for (const node of status.nodes) {
                const row = body.insertRow();
                row.title = node.last_error ?? node.lag_problem ?? '';
                cell(row, node.name);
                cell(row, node.role);
                cell(row, node.host + ':' + node.port);
                cell(row, node.weight);
                cell(row, node.state + (node.lag_problem ? ', lags' : ''), node.lag_problem ? 'lags' : node.state);
                cell(row, node.timeline);
                cell(row, node.wal_position);
                cell(row, lag(node));
                cell(row, replication(node));
              }
            } catch {
              byId('state').textContent = 'not running';
              byId('state').className = 'state';
            }
          }
          refresh();
          setInterval(refresh, 1000);
        </script>
        </html>

        """#
}
