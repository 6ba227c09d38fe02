import Glibc
import PostgresWire
import ProxyCore
import QueryAnalysis

/// What standbys refuse, and the primary runs, is remembered.
extension Session {
    /// Whether a unit that looks like a read executes a statement that standbys are known to refuse.
    func isKnownToBeRefused(_ unit: RequestUnit) -> Bool {
        guard worker.hasLearned, unit.executes == .read, !unit.isOpaque else { return false }
        let bytes = client.unread.bytes
        if unit.isSimpleQuery {
            return worker.learned.use(Fingerprint(bytes.extracting(textRange(ofQuery: unit))), in: database)
        }
        return requests.operations.contains { operation in
            operation.kind == .bind && worker.learned.use(fingerprint(of: operation, in: bytes), in: database)
        }
    }

    /// Where the text of a simple query is among the client's bytes.
    func textRange(ofQuery unit: RequestUnit) -> Range<Int> { MessageHeader.size..<unit.length - 1 }

    /// Of the statement that an operation refers to.
    private func fingerprint(of operation: StatementOperation, in bytes: RawSpan) -> Fingerprint {
        guard let text = textRange(of: operation, in: bytes) else {
            return statements.fingerprint(of: operation.statement)
        }
        return Fingerprint(bytes.extracting(text))
    }

    /// What there is to be learned from the error of a standby.
    func lesson(of server: ServerConnection, _ error: ServerErrorFields) -> Lesson? {
        guard let current, current.unit.executes == .read, LearnedStatement.isLearned(from: error),
            worker.hasDefinitions(server.node, of: database), let text = refusedText(of: current)
        else { return nil }
        return text.withUnsafeBytes { text in
            Lesson(
                LearnedStatement(
                    database: database,
                    fingerprint: Fingerprint(text),
                    state: error.state,
                    text: normalizedText(of: text),
                    learnedAt: worker.timeOfDay
                )
            )
        }
    }

    /// What a standby has refused for being one has an answer.
    func primaryHasAnswered(hasFailed: Bool) {
        if let lesson, !hasFailed { worker.learn(lesson.statement) }
        lesson = nil
    }

    /// The text of the statement that was refused: of several, the one after those that were completed.
    private func refusedText(of current: Current) -> [UInt8]? {
        let bytes = client.unread.bytes
        if current.unit.isSimpleQuery { return bytes.array(textRange(ofQuery: current.unit)) }
        let executed = requests.operations.lazy.filter { $0.kind == .bind }
        return executed.dropFirst(current.completions).first.flatMap { text(of: $0, in: bytes) }
    }
}

extension LearnedStatement {
    /// As SHOW LEARNED tells it.
    var row: [String] {
        [database, "\(fingerprint)", "\(state)", text, "\(count)", Self.text(ofTime: learnedAt)]
    }

    /// As `timestamptz` looks with the time zone UTC.
    private static func text(ofTime seconds: Int) -> String {
        var (seconds, parts) = (time_t(seconds), tm())
        gmtime_r(&seconds, &parts)
        return String(unsafeUninitializedCapacity: 64) { buffer in
            buffer.withMemoryRebound(to: CChar.self) {
                strftime($0.baseAddress!, $0.count, "%Y-%m-%d %H:%M:%S+00", &parts)
            }
        }
    }
}
