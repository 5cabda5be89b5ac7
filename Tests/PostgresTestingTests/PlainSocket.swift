import Glibc
import PostgresTesting

/// A socket that never blocks, for what a peer sees; it is asked until something came, for at most 20 seconds.
final class PlainSocket: Sendable {
    struct Failure: Error {}

    enum Ending {
        case end
        case reset
        case timedOut
    }

    /// Everything that came until the end, and what end it was.
    struct Remainder: Equatable {
        var bytes: [UInt8]
        var ending: Ending

        init(bytes: ArraySlice<UInt8>, ending: Ending) {
            self.bytes = Array(bytes)
            self.ending = ending
        }
    }

    private let descriptor: Int32

    fileprivate init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }

    /// Throws if nobody listens there.
    init(to proxy: PostgresFaultProxy) throws {
        descriptor = try withAddress(port: proxy.port, folder: proxy.socketFolder) { family, address, size in
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            // It may be reset before this returns; what is read then says so.
            guard Glibc.connect(descriptor, address, size) == 0 || errno == ECONNRESET else {
                Glibc.close(descriptor)
                throw Failure()
            }
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
            return descriptor
        }
    }

    deinit { Glibc.close(descriptor) }

    /// Both ways, but keeps the descriptor, which `deinit` closes.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    func endWriting() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Short enough for the buffer of a socket.
    func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    func read(_ count: Int) async -> [UInt8] { await read { $0.reduce(0) { $0 + $1.count } >= count }.bytes }

    func readToEnd() async -> Remainder { await read { _ in false } }

    func sizesOfReads(until count: Int) async -> [Int] {
        var sizes: [Int] = []
        _ = await read { pieces in
            sizes = pieces.map(\.count)
            return sizes.reduce(0, +) >= count
        }
        return sizes
    }

    /// Whether nothing comes for a moment, not even the end.
    func isSilent() async -> Bool {
        try? await Task.sleep(for: .milliseconds(20))
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, 0) < 0 && errno == EAGAIN
    }

    private func read(until isEnough: ([[UInt8]]) -> Bool) async -> Remainder {
        var pieces: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        let deadline = ContinuousClock.now + .seconds(20)
        func remainder(_ ending: Ending) -> Remainder { Remainder(bytes: pieces.flatMap { $0 }[...], ending: ending) }
        while ContinuousClock.now < deadline {
            if isEnough(pieces) { return remainder(.timedOut) }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count > 0 {
                pieces.append(Array(buffer[..<count]))
            } else if count == 0 {
                return remainder(.end)
            } else if errno == EAGAIN {
                try? await Task.sleep(for: .microseconds(200))
            } else {
                return remainder(.reset)
            }
        }
        return remainder(.timedOut)
    }
}

/// Listens for one plain socket.
final class PlainListener: Sendable {
    private let descriptor: Int32
    let server: PostgresFaultProxy.Server
    private let folder: String?

    init(_ address: PostgresEphemeralServer.Address) throws {
        let family = address == .tcp ? AF_INET : AF_UNIX
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        var folder: String?
        if address == .unixSocket {
            var template = Array("/tmp/plain-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw PlainSocket.Failure() }
            folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        let isBound = try withAddress(port: address == .tcp ? 0 : 1, folder: folder) { _, address, size in
            bind(descriptor, address, size) == 0 && listen(descriptor, 8) == 0
        }
        guard isBound else { throw PlainSocket.Failure() }
        self.descriptor = descriptor
        self.folder = folder
        if let folder {
            server = .unixSocket(path: "\(folder)/.s.PGSQL.1")
        } else {
            var address = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            _ = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
            }
            server = .tcp(port: Int(UInt16(bigEndian: address.sin_port)))
        }
    }

    deinit {
        Glibc.close(descriptor)
        if let folder {
            unlink("\(folder)/.s.PGSQL.1")
            rmdir(folder)
        }
    }

    /// Nobody is let in any more, though the descriptor is open until `deinit`.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    func accept() async throws -> PlainSocket {
        var accepted: Int32 = -1
        let came = await eventually {
            accepted = Glibc.accept(descriptor, nil, nil)
            return accepted >= 0
        }
        guard came else { throw PlainSocket.Failure() }
        return PlainSocket(accepted)
    }
}

private func withAddress<Value>(
    port: Int, folder: String?, _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) throws -> Value
) throws -> Value {
    func lend<Address>(_ address: inout Address, _ family: Int32) throws -> Value {
        let size = socklen_t(MemoryLayout<Address>.size)
        return try withUnsafePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body(family, $0, size) }
        }
    }
    guard let folder else {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return try lend(&address, AF_INET)
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(folder)/.s.PGSQL.\(port)".utf8) }
    return try lend(&address, AF_UNIX)
}
