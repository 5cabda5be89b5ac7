import CPostgresOpenSSL
import CPostgresSystem
import Glibc
import Synchronization

/// Contexts that were made before, found by what they were made of: reading a system's root certificates takes tens of milliseconds,
/// and a megabyte, for what is the same for every connection.
///
/// A file that has changed since, or a new one in its place, makes another context; connections keep the one they have. What failed is
/// not kept: it fails each time with the error of that time, until it is mended.
package final class TLSContextCache: Sendable {
    package static let shared = TLSContextCache()

    /// Configurations of a process are few; those beyond it are made anew.
    package static let capacity = 16

    private struct Key: Hashable {
        let verification: TLSVerification
        let rootCertificates: TLSRootCertificates
        let files: [FileVersion]
    }

    private struct Entry {
        let key: Key
        let context: TLSContext
    }

    /// The most recently used last.
    private let entries = Lock<[Entry]>([])
    /// Held while one is made, so that many connections at once do not each make their own.
    private let making = Lock<Void>(())

    package init() {}

    package var count: Int { entries.withLock { $0.count } }

    /// What was made before; nil if there is nothing, or not of what the files are now.
    package func find(_ verification: TLSVerification, _ rootCertificates: TLSRootCertificates) -> TLSContext? {
        find(key(verification, rootCertificates))
    }

    /// Finds or makes one. Reading files, it is for a thread that may block.
    package func make(
        _ verification: TLSVerification, _ rootCertificates: TLSRootCertificates
    ) throws(TransportError) -> TLSContext {
        try making.withLock { _ throws(TransportError) in
            // Before the files are read: what is written meanwhile is a version of its own, and read by who comes next.
            let key = key(verification, rootCertificates)
            if let known = find(key) { return known }
            let context = try TLSContext(verification: verification, rootCertificates: rootCertificates)
            entries.withLock { entries in
                if entries.count >= TLSContextCache.capacity { entries.removeFirst() }
                entries.append(Entry(key: key, context: context))
            }
            return context
        }
    }

    private func find(_ key: Key) -> TLSContext? {
        entries.withLock { entries in
            guard let index = entries.lastIndex(where: { $0.key == key }) else { return nil }
            let entry = entries.remove(at: index)
            entries.append(entry)
            return entry.context
        }
    }

    private func key(_ verification: TLSVerification, _ rootCertificates: TLSRootCertificates) -> Key {
        var files: [FileVersion] = []
        if verification != .none {
            switch rootCertificates {
            case .file(let path): files = [FileVersion(path)]
            case .system: files = TLSContextCache.systemPaths().map { FileVersion($0) }
            }
        }
        // Without verification no certificate is read.
        return Key(
            verification: verification, rootCertificates: verification == .none ? .system : rootCertificates,
            files: files)
    }

    /// Where OpenSSL looks for the system's: a file and folders, each to be set by an environment variable.
    private static func systemPaths() -> [String] {
        func path(_ variable: UnsafePointer<CChar>?, _ usual: UnsafePointer<CChar>?) -> String? {
            (variable.flatMap { getenv($0) }.map { UnsafePointer($0) } ?? usual).map { String(cString: $0) }
        }
        let file = path(X509_get_default_cert_file_env(), X509_get_default_cert_file())
        let folders = path(X509_get_default_cert_dir_env(), X509_get_default_cert_dir())
        return [file].compactMap { $0 } + (folders ?? "").split(separator: ":").map { String($0) }
    }
}

/// Which file lies at a path, and in which version of it; the same for all that are not there.
private struct FileVersion: Hashable {
    let path: String
    private var device: UInt64 = 0
    private var number: UInt64 = 0
    private var size: Int64 = -1
    private var modified: [Int] = []

    init(_ path: String) {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        device = UInt64(truncatingIfNeeded: status.st_dev)
        number = UInt64(truncatingIfNeeded: status.st_ino)
        size = Int64(truncatingIfNeeded: status.st_size)
        modified = [
            status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
        ]
    }
}
