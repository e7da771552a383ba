import Bench
import Foundation
import Links

// The README's figures of links. Usage: link-bench BIN [shm] [tcp] [verbs]
// BIN is the folder with the release builds of the tools. A table goes to standard output, every figure to the file
// that GRASS_RESULTS names.

guard CommandLine.arguments.count >= 2 else { throw BenchmarkError("usage: link-bench BIN [shm] [tcp] [verbs]") }
let bin = URL(fileURLWithPath: CommandLine.arguments[1])
let chosen = CommandLine.arguments.count > 2 ? Array(CommandLine.arguments[2...]) : ["shm", "tcp", "verbs"]
let report = Report()

if chosen.contains("shm") || chosen.contains("tcp") {
  let daemon = try Daemon(bin: bin)
  defer { daemon.stop() }
  if chosen.contains("shm") { try LocalFigures(report).sharedMemory(daemon.sharedMemory) }
  if chosen.contains("tcp") { try LocalFigures(report).tcp(daemon.tcp) }
}
if chosen.contains("verbs") {
  var figures = try VerbsFigures(report, bin: bin)
  defer { figures.shutDown() }
  try figures.run()
}
