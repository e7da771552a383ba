import KernelInfo

/// Tasks as a tree: each below the process that it is a child of.
public struct TaskForest: Sendable {
  public struct Node: Sendable {
    public let task: KernelTask
    /// For each level above, from the top: whether another child of it follows further down. As many as the node is
    /// deep; the last one is about the node itself.
    public let continues: [Bool]
    public var depth: Int { continues.count }
  }

  /// Parents before their children, siblings in the order of their ids.
  public let nodes: [Node]

  /// Arranges `tasks`; threads follow the one that leads their process, at its depth.
  ///
  /// A process whose parent is not among them is a root, and so is the first one met of a ring of parents. Each task is
  /// in the tree once. Cost: linear in the tasks, and in the depth for each.
  public init(_ tasks: [KernelTask]) {
    var processes: [Int32: [KernelTask]] = [:]
    for task in tasks { processes[task.tgid, default: []].append(task) }
    let ids = processes.keys.sorted()
    var children: [Int32: [Int32]] = [:]
    var roots: [Int32] = []
    for id in ids {
      let parent = processes[id]?.first?.ppid ?? 0
      if parent != id, processes[parent] != nil {
        children[parent, default: []].append(id)
      } else {
        roots.append(id)
      }
    }
    var nodes: [Node] = []
    var seen: Set<Int32> = []
    func add(_ root: Int32) {
      var open = [(id: root, continues: [Bool]())]
      while let (id, continues) = open.popLast() {
        guard seen.insert(id).inserted else { continue }
        // Deeper than this nobody looks, and each level costs every node below it.
        let isDeep = continues.count >= Self.deepest
        for task in processes[id] ?? [] { nodes.append(Node(task: task, continues: continues)) }
        let below = children[id] ?? []
        for (index, child) in below.enumerated().reversed() {
          open.append((child, isDeep ? continues : continues + [index < below.count - 1]))
        }
      }
    }
    for root in roots { add(root) }
    // What is left are rings of parents, which only damage or deceit makes.
    for id in ids where !seen.contains(id) { add(id) }
    self.nodes = nodes
  }

  private static let deepest = 256
}
