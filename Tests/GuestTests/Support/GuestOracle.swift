import Foundation
import Lab
import Testing

/// What the guest itself says of its tasks.
struct TaskOracle {
  struct Task: Equatable {
    var pid: Int
    var tgid: Int
    var comm: [UInt8] = []
    var commandLine: [UInt8] = []
    /// The fields of /proc/PID/stat after the name: the state is the first.
    var stat: [String] = []
    /// By name: the numbers of `Uid:` and `Gid:`.
    var ids: [String: [Int]] = [:]

    /// A field of /proc/PID/stat by its number in proc(5).
    func field(_ number: Int) -> String { number - 3 < stat.count ? stat[number - 3] : "" }
  }

  /// By thread id.
  var tasks: [Int: Task] = [:]

  /// Reads the guest's /proc.
  ///
  /// With `threads`, each thread's own files; else those of processes.
  init(_ guest: Guest, threads: Bool) throws {
    // One program for all files: a process per file would take minutes under emulation.
    let base = threads ? "/proc/[0-9]*/task/[0-9]*" : "/proc/[0-9]*"
    let output = try guest.run(
      "head -c 1000000 \(base)/stat \(base)/status \(base)/comm \(base)/cmdline 2>/dev/null"
    ).bytes
    for (path, content) in Self.files(output) {
      // /proc/TGID/NAME or /proc/TGID/task/TID/NAME
      let parts = path.split(separator: "/")
      guard let tgid = Int(parts[1]), let tid = Int(parts[parts.count - 2]), let name = parts.last else { continue }
      var task = tasks[tid] ?? Task(pid: tid, tgid: tgid)
      switch name {
      case "stat":
        guard let end = content.lastIndex(of: UInt8(ascii: ")")) else { continue }
        task.stat = String(decoding: content[(end + 1)...], as: UTF8.self).split(whereSeparator: \.isWhitespace).map(
          String.init)
      case "status":
        for line in String(decoding: content, as: UTF8.self).split(separator: "\n") {
          let words = line.split(whereSeparator: { $0 == "\t" || $0 == ":" })
          if words.first == "Uid" || words.first == "Gid" {
            task.ids[String(words[0])] = words.dropFirst().compactMap { Int($0) }
          }
        }
      case "comm": task.comm = content.last == UInt8(ascii: "\n") ? content.dropLast() : content
      default: task.commandLine = content
      }
      tasks[tid] = task
    }
    tasks = tasks.filter { !$0.value.stat.isEmpty && !$0.value.comm.isEmpty }
  }

  /// Cuts the output of `head` into files.
  private static func files(_ output: [UInt8]) -> [(path: String, content: [UInt8])] {
    let marker = Array("==> /proc/".utf8)
    var starts: [Int] = []
    var index = 0
    while index + marker.count <= output.count {
      if output[index] == marker[0], output[index..<index + marker.count].elementsEqual(marker) { starts.append(index) }
      index += 1
    }
    return starts.enumerated().compactMap { position, start in
      guard let lineEnd = output[start...].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
      let path = String(decoding: output[(start + 4)..<(lineEnd - 4)], as: UTF8.self)
      // A newline stands before each header but the first.
      let end = position + 1 < starts.count ? starts[position + 1] - 1 : output.count
      return (path, end > lineEnd + 1 ? Array(output[(lineEnd + 1)..<end]) : [])
    }
  }
}
