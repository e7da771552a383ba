import Foundation
import Lab
import Testing

/// Runs another program to its end; what it says comes with a failure.
///
/// - Returns: what it says, on standard output and standard error.
func runProgram(_ program: String, _ arguments: [String], environment: [String: String] = [:]) throws -> String {
  let process = Process()
  process.executableURL = URL(filePath: "/usr/bin/env")
  process.arguments = environment.map { "\($0)=\($1)" } + [program] + arguments
  process.standardInput = FileHandle.nullDevice
  let output = Pipe()
  process.standardOutput = output
  process.standardError = output
  try Spawner.shared.start(process)
  let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  try #require(process.terminationStatus == 0, "\(program): \(text)")
  return text
}
