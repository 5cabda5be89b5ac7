enum SASLprep {
    static func prepare(_ password: Password) -> [UInt8] { Array(password.text.utf8) }
}
