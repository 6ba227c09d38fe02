import Topology

extension MaxLag {
    /// Why a standby that is so far behind serves no reads, such as "lags 123.0 MB behind, more than max_lag 16 MB".
    func excess(of lag: Lag) -> String {
        var more: [String] = []
        var notLess: [String] = []
        func compare<Value: Comparable>(_ value: Value, _ half: Value, _ limit: Value, _ texts: (String, String)) {
            if value > limit { more.append("\(texts.0) behind, more than max_lag \(texts.1)") }
            if value >= half { notLess.append("\(texts.0) behind, not yet less than half of max_lag \(texts.1)") }
        }
        if let bytes { compare(lag.bytes, bytes / 2, bytes, (Quantity.bytes(lag.bytes), Quantity.bytes(bytes))) }
        if let time {
            let texts = (Quantity.seconds(lag.time / .seconds(1)), Quantity.limit(time / .seconds(1)))
            compare(lag.time, time / 2, time, texts)
        }
        let reasons = more.isEmpty ? notLess : more
        // What it was known to lack it has replayed by now, and the primary does not say whether it has more.
        if reasons.isEmpty { return "was behind more than its max_lag when the primary answered last" }
        return "lags " + reasons.joined(separator: ", and ")
    }
}
