import CSandbox
import Glibc
import Shadow
import Synchronization

/// The processes of one sandbox, as their own /proc tells of them.
///
/// That /proc lies in their mount namespace, and is reached from here by the first of them.
final class Visitors: OwnProcesses {
  let folder: String
  private let root = Atomic<Int32>(-1)

  /// - Parameter folder: where they have their own /proc.
  init(folder: String) { self.folder = folder }

  deinit {
    let file = root.load(ordering: .relaxed)
    if file >= 0 { close(file) }
  }

  /// Tells that `first`, by this machine's numbers, has mounted it.
  func begin(_ first: Int32) {
    let file = grass_sandbox_place("/proc/\(first)/root\(folder)")
    let before = root.exchange(file, ordering: .acquiringAndReleasing)
    if before >= 0 { close(before) }
  }

  func numbers(of thread: Int32) -> (process: Int32, thread: Int32)? {
    guard thread > 0, let status = Self.text("/proc/\(thread)/status") else { return nil }
    func last(_ name: String) -> Int32? {
      let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") }
      let numbers = line.map { $0.split(whereSeparator: { $0 == "\t" || $0 == " " }).dropFirst() } ?? []
      return numbers.count > 1 ? numbers.last.flatMap { Int32($0) } : nil
    }
    guard let process = last("NStgid"), let own = last("NSpid"), has("\(process)") else { return nil }
    return (process, own)
  }

  func processes() -> [Int32] {
    // The first one is not theirs: it only waits for them.
    (entries(".") ?? []).compactMap { Int32($0) }.filter { $0 != 1 }.sorted()
  }

  func threadCount() -> Int { processes().reduce(0) { $0 + (entries("\($1)/task")?.count ?? 0) } }

  func has(_ path: String) -> Bool {
    let root = root.load(ordering: .acquiring)
    // Without asking where it leads: many entries of /proc are links to what cannot be reached.
    return root >= 0 && faccessat(root, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0
  }

  func entries(_ path: String) -> [String]? {
    let root = root.load(ordering: .acquiring)
    guard root >= 0 else { return nil }
    let file = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard file >= 0, let directory = fdopendir(file) else { return nil }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(validatingCString: $0) }
      }
      if let name, name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  func target(_ path: String) -> [UInt8]? {
    let root = root.load(ordering: .acquiring)
    guard root >= 0 else { return nil }
    var bytes = [CChar](repeating: 0, count: 4096)
    let count = readlinkat(root, path, &bytes, bytes.count)
    return count > 0 ? bytes[..<count].map { UInt8(bitPattern: $0) } : nil
  }

  func readsLink(_ thread: Int32) -> Bool {
    // readlink and readlinkat; the thread waits in it for our answer.
    guard let call = Self.text("/proc/\(thread)/syscall")?.split(separator: " ").first else { return false }
    return call == "89" || call == "267"
  }

  /// What a small file of a /proc holds; nil where it cannot be read.
  static func text(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = read(file, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
  }
}
