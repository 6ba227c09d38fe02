/// The name that was probably meant.
enum Spelling {
    static func closest(to name: String, among known: [String]) -> String? {
        let distances = known.map { (name: $0, distance: distance(Array(name.utf8), Array($0.utf8))) }
        if let best = distances.min(by: { $0.distance < $1.distance }), best.distance <= max(1, name.utf8.count / 3) {
            return best.name
        }
        // "port" for "listen_port".
        return name.utf8.count < 4 ? nil : known.first { $0.hasSuffix("_" + name) || $0.hasPrefix(name + "_") }
    }

    /// How many letters have to be inserted, deleted, replaced or exchanged with their neighbours (optimal string
    /// alignment).
    static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for (row, letter) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                var best = min(last[column] + (letter == other ? 0 : 1), last[column + 1] + 1, current[column] + 1)
                if row > 0, column > 0, letter == right[column - 1], left[row - 1] == other {
                    best = min(best, beforeLast[column - 1] + 1)
                }
                current.append(best)
            }
            (beforeLast, last) = (last, current)
        }
        return last[right.count]
    }
}
