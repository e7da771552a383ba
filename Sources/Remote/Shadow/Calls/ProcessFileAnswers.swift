import LinuxKernel
import Memory
import TaskViews

extension HostAnswers {
  /// Those of a process's files that are made of what is kept of all processes, with at most one look at the host for all of them.
  private static let kept: Set<String> = [
    "stat", "status", "statm", "cmdline", "comm", "environ", "limits", "io", "oom_score_adj",
  ]

  /// What the file at `path` shows, where it is one of those of processes that are made without a look at the host for each.
  ///
  /// Nil for all others, for those of processes that the host has not, and for what is no plain path below /proc.
  ///
  /// - Throws: ``ShadowError``: ``ShadowError/missing`` where the process is there, and no process has such a file.
  public func processFile(at path: [UInt8]) throws(ShadowError) -> [UInt8]? {
    let parts = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    // Nothing, proc, a process, in it perhaps the folder of threads and one of these, and the file.
    guard parts.count == 4 || parts.count == 6, parts[0].isEmpty, parts[1].elementsEqual("proc".utf8),
      let process = Self.number(parts[2]), parts.count == 4 || parts[3].elementsEqual("task".utf8)
    else { return nil }
    let thread = parts.count == 6 ? Self.number(parts[4]) : process
    let name = String(decoding: parts[parts.count - 1], as: UTF8.self)
    return try ShadowError.answering {
      guard let thread, let record = try host.processes()[thread], parts.count == 4 || record.task.tgid == process
      else {
        return nil
      }
      let directory = ProcessDirectory(host: host, tid: thread, isWhole: parts.count == 4)
      // Steps to the directory itself and to the one above it are no entries.
      guard let entry = try directory.entry(name) else {
        if name.isEmpty || name == "." || name == ".." { return nil }
        throw ShadowError.missing
      }
      guard Self.kept.contains(name), case .file(let make) = entry.body, case .bytes(let bytes) = try make() else {
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
