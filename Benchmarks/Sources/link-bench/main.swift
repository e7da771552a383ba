import Foundation
import LinkBench
import Links
import Measuring

// The figures of links in docs/figures.md. Usage: link-bench BIN [shm] [tcp] [flood] [verbs]
// BIN is the folder with the release builds of the tools. A table goes to standard output, every figure to the file
// that GRASS_RESULTS names.

guard CommandLine.arguments.count >= 2 else {
  throw BenchmarkError("usage: link-bench BIN [shm] [tcp] [flood] [verbs]")
}
let bin = URL(fileURLWithPath: CommandLine.arguments[1])
let chosen = CommandLine.arguments.count > 2 ? Array(CommandLine.arguments[2...]) : ["shm", "tcp", "flood", "verbs"]
let report = Report()
/// Slots that hold the longest request and result whole, for the paper's sequence, which has one buffer for each.
let longSlots = ["--slots", "8", "--request-size", "4100", "--response-size", "4100"]

if chosen.contains("shm") || chosen.contains("tcp") {
  let memory = FileManager.default.temporaryDirectory.appendingPathComponent("link-bench-\(UUID().uuidString).raw")
  try Data(repeating: 0x5a, count: 64 << 20).write(to: memory)
  defer { try? FileManager.default.removeItem(at: memory) }
  let daemon = try Daemon(bin: bin, memory: memory.path, slots: longSlots)
  defer { daemon.stop() }
  if chosen.contains("shm") { try LocalFigures(report).sharedMemory(daemon.urls[0]) }
  if chosen.contains("tcp") { try LocalFigures(report).tcp(daemon.urls[1]) }
}
if chosen.contains("flood") {
  let memory = FileManager.default.temporaryDirectory.appendingPathComponent("link-bench-\(UUID().uuidString).raw")
  try Data(repeating: 0x5a, count: 8 << 20).write(to: memory)
  defer { try? FileManager.default.removeItem(at: memory) }
  let daemon = try Daemon(bin: bin, memory: memory.path)
  defer { daemon.stop() }
  try FloodFigures(report, bin: bin, daemon: daemon).tcp(daemon.urls[1])
}
if chosen.contains("verbs") {
  var figures = try VerbsFigures(report, bin: bin)
  defer { figures.shutDown() }
  try figures.run()
}
