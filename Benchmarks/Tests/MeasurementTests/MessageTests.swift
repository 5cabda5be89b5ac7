import MessageCosts
import Testing

@Suite struct Messages {
    /// It throws if the library does not make and take the messages that are measured.
    @Test(arguments: MessageWork.allCases)
    func theLibraryMakesAndTakesThem(_ work: MessageWork) throws {
        try work.run(1)
        try work.run(2 * MessageWork.rowCount)
    }
}
