import Foundation
import Testing

/// What no processor runs: a GPU's program with keys.
struct SealedProgramTests {
  /// The mailbox and its workers, their threads by turns, and a client that makes handshakes and asks: long answers, which all
  /// workers seal, digests, runs, keys that come and go, a program that takes over.
  @Test func aGPUsProgramAnswersByTurns() throws {
    let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..").standardized
    let script = Process()
    script.executableURL = repository.appending(path: "scripts/seal")
    script.arguments = ["mailbox"]
    let output = Pipe()
    (script.standardOutput, script.standardError, script.standardInput) = (output, output, FileHandle.nullDevice)
    try script.run()
    let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    script.waitUntilExit()
    #expect(script.terminationStatus == 0 && said.contains("mailbox: 0 failed"), "\(said)")
  }
}
