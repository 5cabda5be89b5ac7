import Foundation

/// Says on standard error what is going on: one line that is written over on a terminal, few lines elsewhere.
enum Progress {
    private static let isTerminal = isatty(STDERR_FILENO) == 1

    /// A line of its own.
    static func note(_ text: String) { write((isTerminal ? "\r\u{1B}[K" : "") + text + "\n") }

    /// How far the work is. On a terminal only.
    static func step(_ text: String) {
        if isTerminal { write("\r\u{1B}[K" + text) }
    }

    /// Removes the line before the results are printed.
    static func finish() {
        if isTerminal { write("\r\u{1B}[K") }
    }

    private static func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
