import Foundation

// What it costs to watch many hosts. `looks` measures a look at each of many quiet devices, by this process itself. `service` has one
// grass-fleet watch devices over shared memory and over TCP, and tells what that takes; Benchmarks/fleet does all that it needs.
let usage = """
  fleet-bench looks [IMAGE] [DEVICES]
  fleet-bench service GRASS-FLEET IMAGE [shm=2000] [tcp=500] [period=1] [every=600] [bad=0] [seconds=60] [changes=100] [large=0]
  """
let arguments = Array(CommandLine.arguments.dropFirst())
raiseFileLimit()
let folder = URL(fileURLWithPath: "/dev/shm/grass-fleet-\(getpid())")
try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(at: folder) }
switch arguments.first {
case "looks":
  try measureLooks(
    arguments.count > 1 ? arguments[1] : nil, count: arguments.count > 2 ? Int(arguments[2]) ?? 1000 : 1000, in: folder)
case "service" where arguments.count > 2:
  try ServiceBench(program: arguments[1], image: arguments[2], options: Array(arguments.dropFirst(3))).run(in: folder)
default:
  FileHandle.standardError.write(Data("\(usage)\n".utf8))
  try? FileManager.default.removeItem(at: folder)
  exit(64)
}
