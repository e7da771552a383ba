// The tasks of the host, as ps.c has them: the same records from Embedded Swift. Each lane takes every lanes-th number of
// the pid table. What Swift would trap on is undefined in a monitor: hence the operators that wrap.

struct Record {
  var pid, tgid, parent: Int32
  var uid, state, flags: UInt32
  var start, userTime, systemTime: UInt
  var name: (UInt, UInt)
}

/// An entry of an xarray that is a node of its tree (include/linux/xarray.h, xa_is_node).
struct Node {
  let address: UnsafeRawPointer

  init?(_ entry: UnsafeRawPointer?) {
    let bits = UInt(bitPattern: entry)
    guard bits & 3 == 2, bits > 4096, let address = UnsafeRawPointer(bitPattern: bits &- 2) else { return nil }
    self.address = address
  }

  var shift: UInt { UInt(node_shift(address)) }

  /// The entry on the way to an index.
  subscript(index: UInt) -> UnsafeRawPointer? { node_slot(address, UInt32(truncatingIfNeeded: index &>> shift)) }
}

/// The leaf that holds an index.
func leaf(under root: Node, of index: UInt) -> Node? {
  var node = root
  for _ in 0..<6 {
    let shift = node.shift
    if shift == 0 || shift > 30 { return node }
    guard let next = Node(node[index]) else { return nil }
    node = next
  }
  return node
}

func emit(_ task: OpaquePointer, _ run: OpaquePointer) {
  guard let parent = task_parent(task), let name = task_name(task) else { return }
  let record = Record(
    pid: task_pid(task), tgid: task_tgid(task), parent: task_tgid(parent), uid: task_uid(task),
    state: task_state(task), flags: task_flags(task), start: task_start(task), userTime: task_user_time(task),
    systemTime: task_system_time(task), name: name.loadUnaligned(as: (UInt, UInt).self))
  grass_emit(run, 1, UInt32(truncatingIfNeeded: MemoryLayout<Record>.size))?.storeBytes(of: record, as: Record.self)
}

@c(swift_ps_lane) public func ps(run: OpaquePointer) {
  guard let root = Node(pid_table()), root.shift <= 16 else { return }
  let end = 64 &<< root.shift
  var index = UInt(grass_lane(run))
  while index < end {
    if let leaf = leaf(under: root, of: index), let pid = leaf[index], UInt(bitPattern: pid) & 3 == 0,
      let link = first_task(pid), let task = task_of(link)
    {
      emit(task, run)
    }
    index &+= UInt(grass_lanes(run))
  }
}
