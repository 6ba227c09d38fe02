extension Dictionary where Value: AnyObject {
    /// Removes the values that nobody else holds.
    package mutating func removeUnshared() {
        for key in Array(keys) {
            guard var value = removeValue(forKey: key) else { continue }
            if !isKnownUniquelyReferenced(&value) { self[key] = value }
        }
    }
}
