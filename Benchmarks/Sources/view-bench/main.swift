import Foundation
import Lab
import LinkBench
import Measuring

// Every view of one image, each in a new process, beside Volatility 3 and drgn where they are.
// Usage: view-bench BIN SCRIPTS PEERS [KERNEL [VMLINUX]]
// BIN is the folder with the release build of grassctl, SCRIPTS that of symbol_file.py, PEERS that of the peers.

let arguments = CommandLine.arguments
guard arguments.count >= 4 else { throw BenchmarkError("usage: view-bench BIN SCRIPTS PEERS [KERNEL [VMLINUX]]") }
let grassctl = arguments[1] + "/grassctl"
let scripts = arguments[2]
let peers = arguments[3]
let kernel = arguments.count > 4 ? arguments[4] : "6.1"
let vmlinux = arguments.count > 5 ? arguments[5] : nil
setenv("PYTHONPATH", peers, 1)

func progress(_ text: String) { FileHandle.standardError.write(Data("views: \(text)\n".utf8)) }
func row(_ cells: String...) { FileHandle.standardOutput.write(Data("| \(cells.joined(separator: " | ")) |\n".utf8)) }

/// What shows the same in a peer: a plugin of Volatility's, and a script for drgn.
struct Peer {
  var volatility: String?
  var drgn: String?
}

/// By our command line; the views themselves come from grassctl.
let peersOf: [String: Peer] = [
  "ps": Peer(
    volatility: "pslist",
    drgn: """
      from drgn.helpers.linux import for_each_task
      for task in for_each_task(prog):
          print(task.pid.value_(), task.tgid.value_(), task.comm.string_())
      """),
  "dmesg": Peer(
    volatility: "kmsg", drgn: "print(len(__import__('drgn.helpers.linux').helpers.linux.get_dmesg(prog)))"),
  "ps --forest": Peer(volatility: "pstree"), "ps --environ": Peer(volatility: "envars"),
  "ps --capabilities": Peer(volatility: "capabilities"),
  "stack --all": Peer(
    drgn: """
      from drgn.helpers.linux import for_each_task
      for task in for_each_task(prog):
          try:
              print(task.pid.value_(), prog.stack_trace(task))
          except ValueError:
              pass
      """),
  "maps 1": Peer(volatility: "proc.Maps --pid 1"), "lsof": Peer(volatility: "lsof"), "lsmod": Peer(volatility: "lsmod"),
  "mount": Peer(
    volatility: "mountinfo",
    drgn: """
      from drgn.helpers.linux import for_each_mount, mount_dst
      for mount in for_each_mount(prog):
          print(mount_dst(mount))
      """),
  "ss": Peer(volatility: "sockstat"), "ip addr": Peer(volatility: "ip.Addr"),
  "netfilter": Peer(volatility: "netfilter"),
  "hooks": Peer(volatility: "check_syscall"), "bpf": Peer(volatility: "ebpf"),
  "files": Peer(volatility: "pagecache.Files"),
  "slabtop": Peer(
    drgn: """
      from drgn.helpers.linux import for_each_slab_cache
      for cache in for_each_slab_cache(prog):
          print(cache.name.string_(), cache.object_size.value_())
      """),
]

let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-views-\(UUID().uuidString)")
try FileManager.default.createDirectory(
  at: folder.appendingPathComponent("symbols/linux"), withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(at: folder) }
func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
let image = path("memory.raw")

progress("booting a guest with 1 GiB and about 300 tasks")
do {
  let guest = try Guest(GuestOptions(kernel: kernel, memory: 1024, sleepers: 230))
  try guest.dump(to: image, format: .raw)
  try Data(guest.run("cat /proc/version").bytes).write(to: URL(fileURLWithPath: path("banner")))
  guest.shutDown()
}
let count = try { () throws -> Int in
  _ = try Cost.run(grassctl, ["ps", "--threads", "--memory", image], output: path("ps"))
  return try String(contentsOfFile: path("ps"), encoding: .utf8).split(separator: "\n").count - 1
}()

/// Volatility's command line, once it has its symbol file: from the image's own types and symbols.
let volatility = try { () throws -> [String]? in
  guard FileManager.default.isExecutableFile(atPath: peers + "/bin/vol") else { return nil }
  progress("making Volatility's symbol file")
  _ = try Cost.run(grassctl, ["sym", "--memory", image], output: path("symbols.txt"))
  func address(_ name: String) throws -> UInt64 {
    _ = try Cost.run(grassctl, ["sym", name, "--memory", image], output: path("symbol"))
    let word = try String(contentsOfFile: path("symbol"), encoding: .utf8).split(separator: " ").first ?? ""
    return UInt64(word, radix: 16) ?? 0
  }
  let start = try address("__start_BTF")
  let size = try address("__stop_BTF") &- start
  _ = try Cost.run(
    grassctl, ["read", "0x" + String(start, radix: 16), "--count", "\(size)", "--raw", "--memory", image],
    output: path("btf"))
  _ = try Cost.run(
    "/usr/bin/python3",
    ["\(scripts)/symbol_file.py", path("btf"), path("symbols.txt"), path("banner"), path("symbols/linux/kernel.json")])
  let words = ["\(peers)/bin/vol", "-q", "--cache-path", path("cache"), "-s", path("symbols"), "-f", image]
  try FileManager.default.createDirectory(atPath: path("cache"), withIntermediateDirectories: true)
  progress("Volatility reads it for the first time")
  _ = try Cost.run("/usr/bin/python3", words + ["linux.pslist"])
  return words
}()

let debugger = try { () throws -> [String]? in
  guard let vmlinux, FileManager.default.isExecutableFile(atPath: peers + "/bin/drgn") else { return nil }
  progress("making drgn's core")
  _ = try Cost.run("/usr/bin/python3", ["\(scripts)/core_file.py", image, path("core")])
  return ["\(peers)/bin/drgn", "-q", "--no-default-symbols", "-c", path("core"), "-s", vmlinux]
}()

/// The command lines of all views, and of what is none.
let commands = try { () throws -> [[String]] in
  _ = try Cost.run(grassctl, ["reference", "--commands", "--text", "GRASS-no-such-text"], output: path("commands"))
  let views = try String(contentsOfFile: path("commands"), encoding: .utf8).split(separator: "\n").map {
    $0.split(separator: "\t").map(String.init)
  }
  return views + [["strings", "--containing", "GRASS-no-such-text"]]
}()
for name in peersOf.keys where !commands.contains(where: { $0.joined(separator: " ") == name }) {
  throw BenchmarkError("no view is tried as '\(name)', which a peer is said to show")
}

row("view of a 1 GiB image, \(count) threads, a new process each", "GRASS", "resident", "Volatility 3", "drgn")
row("---", "---", "---", "---", "---")
for command in commands {
  let name = command.joined(separator: " ")
  let view = peersOf[name] ?? Peer()
  progress(name)
  var costs: [Cost] = []
  for _ in 0..<7 { costs.append(try Cost.run(grassctl, command + ["--memory", image])) }
  let ours = Samples(microseconds: costs.map(\.microseconds)).median
  func peer(_ cost: Cost?) -> String {
    cost.map { "\(time($0.microseconds)), \(digits($0.microseconds / ours, 0))×" } ?? "–"
  }
  func run(_ words: [String]?) -> Cost? { words.flatMap { try? Cost.run("/usr/bin/python3", $0) } }
  let other = volatility.flatMap { words in
    view.volatility.flatMap { run(words + "linux.\($0)".split(separator: " ").map(String.init)) }
  }
  let script = path("script.py")
  try Data((view.drgn ?? "").utf8).write(to: URL(fileURLWithPath: script))
  let third = view.drgn == nil ? nil : run(debugger.map { $0 + [script] })
  if let other, let plugin = view.volatility {
    try Ratios.note(name, peer: "Volatility 3 \(plugin)", ours / other.microseconds)
  }
  if let third { try Ratios.note(name, peer: "drgn", ours / third.microseconds) }
  row(
    "`\(name)`", time(ours),
    "\((costs.map(\.residentKiB).max() ?? 0) / 1024) MB",
    view.volatility.map { "\(peer(other)) (`\($0)`)" } ?? "–", peer(third))
}
