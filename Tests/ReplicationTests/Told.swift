import Synchronization

/// What progress was told.
final class Told: Sendable {
    private let sentences = Mutex<[String]>([])

    func append(_ sentence: String) {
        sentences.withLock { $0.append(sentence) }
    }

    var all: [String] { sentences.withLock { $0 } }

    func contains(_ part: String) -> Bool {
        all.contains { $0.contains(part) }
    }
}
