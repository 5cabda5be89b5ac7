/// The text form of timestamps with DateStyle ISO: `2024-05-06 07:08:09.123456+05:30`, ` BC` behind years before 1, years of
/// up to six digits, `infinity` (manual, "Date/Time Output"; src/backend/utils/adt/datetime.c, `EncodeDateTime`).
///
/// Years are astronomical inside: 1 BC is 0. The calendar is the proleptic Gregorian one, as on the server.
enum TimestampText {
    static let microsecondsPerDay: Int64 = 86_400_000_000
    /// Days from 1970-01-01 to 2000-01-01.
    static let epochOffset: Int64 = 10957

    /// Microseconds since 2000-01-01; nil when the text is anything else, or outside the server's range.
    static func parse(_ text: some Collection<UInt8>, hasZone: Bool) -> Int64? {
        if text.elementsEqual("infinity".utf8) { return .max }
        if text.elementsEqual("-infinity".utf8) { return .min }
        var scanner = Scanner(text)
        guard
            var year = scanner.number(digits: 4...6), scanner.skip("-"),
            let month = scanner.number(digits: 2...2), scanner.skip("-"),
            let day = scanner.number(digits: 2...2), scanner.skip(" "),
            let hour = scanner.number(digits: 2...2), scanner.skip(":"),
            let minute = scanner.number(digits: 2...2), scanner.skip(":"),
            let second = scanner.number(digits: 2...2)
        else { return nil }
        guard hour < 24, minute < 60, second < 60, year > 0 else { return nil }
        var fraction: Int64 = 0
        if scanner.skip(".") {
            guard let value = scanner.microseconds() else { return nil }
            fraction = value
        }
        var offset: Int64 = 0
        if hasZone {
            guard let value = scanner.zone() else { return nil }
            offset = value
        }
        if scanner.skip(" ") {
            guard scanner.skip("B"), scanner.skip("C") else { return nil }
            year = 1 - year
        }
        guard scanner.isAtEnd, (1...12).contains(month), day >= 1, day <= length(ofMonth: month, year: year) else {
            return nil
        }
        // The year has at most six digits, so nothing here comes near the ends of Int64, except the last sum.
        let days = daysSince1970(year, month, day) - epochOffset
        let seconds = (hour * 60 + minute) * 60 + second - offset
        let (start, overflow) = days.multipliedReportingOverflow(by: microsecondsPerDay)
        let (total, carry) = start.addingReportingOverflow(seconds * 1_000_000 + fraction)
        guard !overflow, !carry, TimestampRange.contains(total) else { return nil }
        return total
    }

    /// Which other DateStyle wrote the text, if one did: `31.12.2026 ...`, `12/31/2026 ...` or `Thu Dec 31 ...`.
    static func foreignStyle(_ text: UnsafeRawBufferPointer) -> String? {
        func isDigit(_ index: Int) -> Bool { text[index] >= UInt8(ascii: "0") && text[index] <= UInt8(ascii: "9") }
        guard text.count > 10 else { return nil }
        if isDigit(0), isDigit(1), text[2] == text[5], isDigit(3), isDigit(4), isDigit(6) {
            if text[2] == UInt8(ascii: ".") { return "German" }
            if text[2] == UInt8(ascii: "/") { return "SQL" }
        }
        let weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        guard text[3] == UInt8(ascii: " ") else { return nil }
        return weekdays.contains { text.starts(with: $0.utf8) } ? "Postgres" : nil
    }

    /// In JSON the server writes a `T` between date and time.
    static func decode(from decoder: any Decoder, hasZone: Bool) throws -> Int64 {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self).utf8.map { $0 == UInt8(ascii: "T") ? UInt8(ascii: " ") : $0 }
        guard let value = parse(text, hasZone: hasZone) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a timestamp")
        }
        return value
    }

    static func write(_ microseconds: Int64, zone: String) -> String {
        if microseconds == .max { return "infinity" }
        if microseconds == .min { return "-infinity" }
        // Quotient and remainder rounded down; the divisor is positive, so nothing overflows.
        var (days, rest) = microseconds.quotientAndRemainder(dividingBy: microsecondsPerDay)
        if rest < 0 {
            rest += microsecondsPerDay
            days -= 1
        }
        let (year, month, day) = date(daysSince1970: days + epochOffset)
        let seconds = rest / 1_000_000
        var text = "\(padded(year > 0 ? year : 1 - year, 4))-\(padded(month, 2))-\(padded(day, 2)) "
        text += "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
        let fraction = rest % 1_000_000
        if fraction != 0 {
            var digits = padded(fraction, 6)
            while digits.last == "0" { digits.removeLast() }
            text += "." + digits
        }
        return text + zone + (year > 0 ? "" : " BC")
    }

    private static func padded(_ number: Int64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }

    private static func length(ofMonth month: Int64, year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    // Both ways by years that begin in March, so that the leap day is the last day of a year, in eras of 400 years, which
    // are 146,097 days each (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").

    private static func daysSince1970(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let marchYear = month <= 2 ? year - 1 : year
        let era = (marchYear >= 0 ? marchYear : marchYear - 399) / 400
        let yearOfEra = marchYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func date(daysSince1970: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = daysSince1970 + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }
}

extension TimestampText {
    /// Reads from the front; every method takes nothing or what it names.
    private struct Scanner<Text: Collection<UInt8>> {
        private var rest: Text.SubSequence

        init(_ text: Text) { rest = text[...] }

        var isAtEnd: Bool { rest.isEmpty }

        mutating func skip(_ character: Unicode.Scalar) -> Bool {
            guard let byte = rest.first, byte == UInt8(ascii: character) else { return false }
            rest = rest.dropFirst()
            return true
        }

        /// As many digits as there are, if their number is in `digits`.
        mutating func number(digits: ClosedRange<Int>) -> Int64? {
            var value: Int64 = 0
            var count = 0
            while let byte = rest.first, case let digit = byte &- UInt8(ascii: "0"), digit <= 9 {
                guard count < digits.upperBound else { return nil }
                value = value * 10 + Int64(digit)
                count += 1
                rest = rest.dropFirst()
            }
            return digits.contains(count) ? value : nil
        }

        /// One to six digits behind the point.
        mutating func microseconds() -> Int64? {
            let before = rest.count
            guard var value = number(digits: 1...6) else { return nil }
            for _ in (before - rest.count)..<6 { value *= 10 }
            return value
        }

        /// `+hh`, `+hh:mm` or `+hh:mm:ss`, in seconds east of Greenwich. The seconds are there for local mean times.
        mutating func zone() -> Int64? {
            let isWest = skip("-")
            guard isWest || skip("+"), let hours = number(digits: 2...2), hours < 24 else { return nil }
            var seconds = hours * 3600
            var unit: Int64 = 60
            while unit > 0, skip(":") {
                guard let value = number(digits: 2...2), value < 60 else { return nil }
                seconds += value * unit
                unit /= 60
            }
            return isWest ? -seconds : seconds
        }
    }
}
