import Memory
import TaskViews

/// /proc/PID of a process of this machine, which looks at the host: links into the /proc of its own, but for what it asks of
/// the host by them, mounts and network.
struct OwnDirectory: Sendable {
  let host: ShadowHost
  let own: any OwnProcesses
  let pid: Int32

  /// The link `self` or `thread-self`.
  static func link(_ own: any OwnProcesses, isThread: Bool) -> ShadowNode {
    ShadowNode.link(isHere: true) {
      guard let numbers = own.numbers(of: ShadowTree.caller) else { throw ShadowError.missing }
      return Array((isThread ? "\(numbers.process)/task/\(numbers.thread)" : "\(numbers.process)").utf8)
    }
    .owned { $0.isEverybodys = false }
  }

  /// Nil where there is no such process.
  func node() -> ShadowNode? {
    guard own.has("\(pid)") else { return nil }
    let (host, own, pid) = (host, own, pid)
    @Sendable func first() throws -> KernelTask { try host.thread(1).task }
    let shown: KeyValuePairs<String, ShadowNode> = [
      "mounts": .file { try MountFile.mounts(first(), host) },
      "mountinfo": .file { try MountFile.mountInfo(first(), host) },
      "net": NetworkFiles.directory(host, of: first),
    ]
    let ofHost = Dictionary(shown.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    @Sendable func entry(_ name: String) -> ShadowNode {
      ofHost[name]
        ?? .link(isHere: true) {
          // What is a link there, too, says the same here; it is followed by way of it, since it may have no name to follow.
          if own.readsLink(ShadowTree.caller), let target = own.target("\(pid)/\(name)") { return target }
          return Array("\(own.folder)/\(pid)/\(name)".utf8)
        }
    }
    return .directory(
      list: { (own.entries("\(pid)") ?? []).map { .init(name: $0, node: entry($0)) } },
      find: { name in ofHost[name] ?? (ShadowTree.isName(name) && own.has("\(pid)/\(name)") ? entry(name) : nil) })
  }
}
