import LinuxKernel
import Memory
import TaskViews

extension HostAnswers {
  /// Those of a process's files that are made of what is kept of all processes, without another look at the host.
  private static let kept: Set<String> = [
    "stat", "status", "statm", "cmdline", "comm", "limits", "io", "oom_score_adj",
  ]

  /// What the file at `path` shows, where it is one of a process's that are made without another look at the host.
  ///
  /// Nil for all others, for files that are not there, and for what is no plain path below /proc.
  ///
  /// - Throws: ``ShadowError`` where it is one of these, and cannot be read.
  public func processFile(at path: [UInt8]) throws(ShadowError) -> [UInt8]? {
    let parts = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    // Nothing, proc, a process, in it perhaps the folder of threads and one of these, and the file.
    guard parts.count == 4 || parts.count == 6, parts[0].isEmpty, parts[1].elementsEqual("proc".utf8),
      let process = Self.number(parts[2]), parts.count == 4 || parts[3].elementsEqual("task".utf8)
    else { return nil }
    let name = String(decoding: parts[parts.count - 1], as: UTF8.self)
    guard Self.kept.contains(name) else { return nil }
    let thread = parts.count == 6 ? Self.number(parts[4]) : process
    return try ShadowError.answering {
      guard let thread, let record = try host.processes()[thread], parts.count == 4 || record.task.tgid == process
      else {
        return nil
      }
      let directory = ProcessDirectory(host: host, tid: thread, isWhole: parts.count == 4)
      guard case .file(let make)? = try directory.entry(name)?.body, case .bytes(let bytes) = try make() else {
        return nil
      }
      return bytes
    }
  }

  /// As the kernel takes numbers of processes: digits, and no zero before them.
  private static func number(_ text: ArraySlice<UInt8>) -> Int32? {
    guard let first = text.first, (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(first), text.count <= 10,
      text.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { return nil }
    return Int32(exactly: text.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) })
  }
}
