import Foundation
import Lab
import Testing

/// A page that a real browser has open, driven by a script of Python's.
///
/// The script gets the service's address and a folder for pictures, empty for none; it prints a line `ready` once the page is open, and
/// one of JSON at its end.
final class OpenPage {
  private let process = Process()
  private let output = Pipe()
  private var text = ""

  /// Opens it, and waits until it is open.
  init(_ url: String, _ script: String, log: String) throws {
    let library = KernelStore().directory.appendingPathComponent("../axe-playwright-python==0.1.4")
      .standardizedFileURL.path
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments = [
      "--pdeathsig", "KILL", "--", "env", "PYTHONPATH=\(library)", "python3", "-c", script, url,
      ProcessInfo.processInfo.environment["GRASS_SCREENSHOTS"] ?? "",
    ]
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.standardOutput = output
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
    process.standardInput = FileHandle.nullDevice
    try Spawner.shared.start(process)
    while !text.contains("ready\n") {
      let data = output.fileHandleForReading.availableData
      let said = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
      try #require(!data.isEmpty, "no browser: is scripts/setup done? \(said)")
      text += String(decoding: data, as: UTF8.self)
    }
  }

  /// Waits for its end.
  ///
  /// - Returns: the object that it printed.
  func end() throws -> [String: Any] {
    let rest =
      text.replacing("ready\n", with: "")
      + String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return try #require(try JSONSerialization.jsonObject(with: Data(rest.utf8)) as? [String: Any], "\(rest)")
  }
}
