/// Appends protocol messages to a byte array.
package struct MessageWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    /// Begins anew, in the same storage.
    package mutating func clear() {
        bytes.removeAll(keepingCapacity: true)
    }

    /// Appends one message whose body `body` writes.
    package mutating func message(_ type: UInt8, _ body: (inout MessageWriter) -> Void) {
        bytes.append(type)
        lengthPrefixed(body)
    }

    package mutating func message(_ type: BackendMessage, _ body: (inout MessageWriter) -> Void) {
        message(type.rawValue, body)
    }

    package mutating func message(_ type: FrontendMessage, _ body: (inout MessageWriter) -> Void) {
        message(type.rawValue, body)
    }

    /// Appends a body behind its own length, as the startup packets have it.
    package mutating func lengthPrefixed(_ body: (inout MessageWriter) -> Void) {
        let start = bytes.count
        int32(0)
        body(&self)
        let length = UInt32(bytes.count - start)
        for index in 0..<4 {
            bytes[start + index] = UInt8(truncatingIfNeeded: length >> (24 - 8 * UInt32(index)))
        }
    }

    package mutating func int32(_ value: Int32) {
        let value = UInt32(bitPattern: value)
        for shift in [24, 16, 8, 0] as [UInt32] {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    package mutating func int16(_ value: Int16) {
        let value = UInt16(bitPattern: value)
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    package mutating func byte(_ value: UInt8) {
        bytes.append(value)
    }

    package mutating func raw(_ value: some Sequence<UInt8>) {
        bytes.append(contentsOf: value)
    }

    /// A string with its terminating zero.
    package mutating func string(_ value: String) {
        bytes.append(contentsOf: value.utf8)
        bytes.append(0)
    }
}

// MARK: - Messages both sides of the proxy speak

extension MessageWriter {
    package mutating func readyForQuery(_ status: TransactionStatus) {
        message(.readyForQuery) { $0.byte(status.rawValue) }
    }

    package mutating func parameterStatus(_ name: String, _ value: String) {
        message(.parameterStatus) {
            $0.string(name)
            $0.string(value)
        }
    }

    package mutating func backendKeyData(_ key: CancelKey) {
        message(.backendKeyData) {
            $0.int32(key.processID)
            $0.int32(key.secret)
        }
    }

    package mutating func authenticationOk() {
        message(.authentication) { $0.int32(0) }
    }

    package mutating func authenticationCleartextPassword() {
        message(.authentication) { $0.int32(3) }
    }

    package mutating func authenticationMD5Password(salt: [UInt8]) {
        message(.authentication) {
            $0.int32(5)
            $0.raw(salt)
        }
    }

    /// PasswordMessage: a password, or the answer to a challenge by MD5.
    package mutating func passwordMessage(_ text: some Sequence<UInt8>) {
        message(.password) {
            $0.raw(text)
            $0.byte(0)
        }
    }

    /// AuthenticationSASL with the mechanisms offered.
    package mutating func authenticationSASL(_ mechanisms: [String]) {
        message(.authentication) {
            $0.int32(10)
            for mechanism in mechanisms { $0.string(mechanism) }
            $0.byte(0)
        }
    }

    package mutating func authenticationSASLContinue(_ data: [UInt8]) {
        message(.authentication) {
            $0.int32(11)
            $0.raw(data)
        }
    }

    package mutating func authenticationSASLFinal(_ data: [UInt8]) {
        message(.authentication) {
            $0.int32(12)
            $0.raw(data)
        }
    }

    /// SASLInitialResponse of a client.
    package mutating func saslInitialResponse(mechanism: String, _ data: [UInt8]) {
        message(.password) {
            $0.string(mechanism)
            $0.int32(Int32(data.count))
            $0.raw(data)
        }
    }

    package mutating func saslResponse(_ data: [UInt8]) {
        message(.password) { $0.raw(data) }
    }

    /// RowDescription of columns of type `text`, which look the same in text and in binary format.
    package mutating func rowDescription(_ columns: [String]) {
        message(.rowDescription) {
            $0.int16(Int16(columns.count))
            for column in columns {
                $0.string(column)
                $0.int32(0)
                $0.int16(0)
                $0.int32(25)
                $0.int16(-1)
                $0.int32(-1)
                $0.int16(0)
            }
        }
    }

    package mutating func dataRow(_ values: [String]) {
        message(.dataRow) {
            $0.int16(Int16(values.count))
            for value in values {
                $0.int32(Int32(value.utf8.count))
                $0.raw(value.utf8)
            }
        }
    }

    package mutating func commandComplete(_ tag: String) {
        message(.commandComplete) { $0.string(tag) }
    }

    package mutating func terminate() {
        message(.terminate) { _ in }
    }

    package mutating func sync() {
        message(.sync) { _ in }
    }

    /// A Parse of nothing: it takes the name, or is refused because the name is taken.
    package mutating func parseNothing(as name: [UInt8]) {
        message(.parse) {
            $0.raw(name)
            for _ in 0..<4 { $0.byte(0) }
        }
    }

    /// Close of a prepared statement.
    package mutating func closeStatement(_ name: [UInt8]) {
        message(.close) {
            $0.byte(UInt8(ascii: "S"))
            $0.raw(name)
            $0.byte(0)
        }
    }

    package mutating func closeUnnamedPortal() {
        message(.close) {
            $0.byte(UInt8(ascii: "P"))
            $0.byte(0)
        }
    }

    package mutating func query(_ sql: String) {
        message(.query) { $0.string(sql) }
    }

    /// CancelRequest, a startup packet of its own.
    package mutating func cancelRequest(_ key: CancelKey) {
        lengthPrefixed {
            $0.int32(StartupPacket.cancelRequestCode)
            $0.int32(key.processID)
            $0.int32(key.secret)
        }
    }

    package mutating func negotiateProtocolVersion(unrecognised: [String]) {
        message(.negotiateProtocolVersion) {
            $0.int32(0x0003_0000)
            $0.int32(Int32(unrecognised.count))
            for option in unrecognised { $0.string(option) }
        }
    }
}

/// What BackendKeyData announces and a CancelRequest presents.
package struct CancelKey: Hashable, Sendable {
    package var processID: Int32
    package var secret: Int32

    package init(processID: Int32, secret: Int32) {
        self.processID = processID
        self.secret = secret
    }
}
