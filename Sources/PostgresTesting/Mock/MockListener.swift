import Glibc

/// The listening socket of a mock server.
struct MockListener {
    let descriptor: Int32
    let port: Int
    /// The folder of a Unix socket.
    let folder: String?

    init(_ address: PostgresMockServer.Address) throws(PostgresMockServer.Failure) {
        let family = address == .tcp ? AF_INET : AF_UNIX
        descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw MockListener.failure("socket") }
        do throws(PostgresMockServer.Failure) {
            switch address {
            case .tcp:
                port = try MockListener.bindTCP(descriptor)
                folder = nil
            case .unixSocket:
                port = 5432
                folder = try MockListener.bindUnix(descriptor, port: 5432)
            }
            guard listen(descriptor, 128) == 0 else { throw MockListener.failure("listen") }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    func close() {
        Glibc.close(descriptor)
        guard let folder else { return }
        unlink("\(folder)/.s.PGSQL.\(port)")
        rmdir(folder)
    }

    private static func failure(_ call: String) -> PostgresMockServer.Failure {
        PostgresMockServer.Failure(message: "\(call): \(String(cString: strerror(errno)))")
    }

    private static func bindTCP(_ descriptor: Int32) throws(PostgresMockServer.Failure) -> Int {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, size) == 0 && getsockname(descriptor, pointer, &size) == 0
            }
        }
        guard isBound else { throw failure("bind") }
        return Int(UInt16(bigEndian: address.sin_port))
    }

    private static func bindUnix(
        _ descriptor: Int32, port: Int
    ) throws(PostgresMockServer.Failure) -> String {
        var template = Array("/tmp/postgres-mock-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw failure("mkdtemp") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(folder)/.s.PGSQL.\(port)".utf8) }
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isBound else {
            let error = failure("bind")
            rmdir(folder)
            throw error
        }
        return folder
    }
}
