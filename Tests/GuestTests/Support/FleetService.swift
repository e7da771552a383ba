import Foundation
import Lab
import Testing

/// A running grass-fleet, with its configuration and database in a folder of a test's.
final class FleetService {
  let folder: String
  /// Where it answers.
  private(set) var url = ""
  private var process = Process()

  init(_ configuration: String, in folder: String) throws {
    self.folder = folder
    try configuration.write(toFile: "\(folder)/fleet.yaml", atomically: true, encoding: .utf8)
    try start()
  }

  var database: String { "\(folder)/fleet.db" }

  /// Starts it, and waits until it answers.
  func start() throws {
    process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments = [
      "--pdeathsig", "KILL", "--", BuiltTool.directory.appendingPathComponent("grass-fleet").path, "run",
      "\(folder)/fleet.yaml",
    ]
    let output = Pipe()
    process.standardOutput = output
    process.standardInput = FileHandle.nullDevice
    let log = "\(folder)/log"
    if !FileManager.default.fileExists(atPath: log) { _ = FileManager.default.createFile(atPath: log, contents: nil) }
    let errors = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
    try errors.seekToEnd()
    process.standardError = errors
    try Spawner.shared.start(process)
    var text = ""
    while !text.contains("\n") {
      let data = output.fileHandleForReading.availableData
      try #require(!data.isEmpty, "grass-fleet ended: \(said)")
      text += String(decoding: data, as: UTF8.self)
    }
    url = try #require(text.split(separator: "\n").first { $0.hasPrefix("ready ") }.map { String($0.dropFirst(6)) })
  }

  /// How many seconds after the service found something the page has to show it, also on a slow machine; a second is what is promised,
  /// and what it took is printed.
  static let longestDelay = 10.0

  /// What it wrote on standard error.
  var said: String { (try? String(contentsOfFile: "\(folder)/log", encoding: .utf8)) ?? "" }

  /// Ends it without a warning.
  func kill() {
    Glibc.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  func signal(_ number: Int32) { Glibc.kill(process.processIdentifier, number) }

  /// Ends it as an operator would.
  func stop() {
    guard process.isRunning else { return }
    process.terminate()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(said)")
  }

  /// What it answers to a request.
  func get(_ path: String, _ options: [String] = []) throws -> String {
    try runProgram("curl", ["--silent", "--max-time", "10"] + options + ["\(url)\(path)"])
  }

  func object(_ path: String) throws -> [String: Any] {
    let text = try get(path)
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(path): \(text)")
  }

  /// The state of each host, in the order in which they are to be looked at.
  func states() throws -> [(host: String, state: String, cause: String)] {
    let hosts = try #require(try object("/api/v1/fleet")["hosts"] as? [[String: Any]])
    return hosts.map { ("\($0["host"] ?? "")", "\($0["state"] ?? "")", "\($0["cause"] ?? "")") }
  }

  /// The states in words, for messages.
  var told: String { (try? states()).map { "\($0)" } ?? "no answer" }
}
