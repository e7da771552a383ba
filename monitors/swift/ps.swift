// The tasks of the host, as ps.c has them: the same records from Embedded Swift, stage by stage down the pid table. What
// Swift would trap on is undefined in a monitor: hence the operators that wrap.

struct Record {
  var task, parent: UInt
  var pid, tgid: Int32
  var uid, flags, state, reserved: UInt32
  var start, userTime, systemTime: UInt
  var name: (UInt, UInt)
}

/// An entry of an xarray (include/linux/xarray.h, xa_is_node).
struct Entry {
  let bits: UInt

  init(_ entry: UnsafeRawPointer?) { bits = UInt(bitPattern: entry) }

  /// The node of the tree that the entry stands for.
  var node: UInt? { bits & 3 == 2 && bits > 4096 ? bits &- 2 : nil }
  /// The object that was stored.
  var object: UnsafeRawPointer? { bits & 3 == 0 ? UnsafeRawPointer(bitPattern: bits) : nil }
}

func emit(_ task: OpaquePointer, _ run: OpaquePointer) {
  guard let parent = task_parent(task), let name = task_name(task) else { return }
  let record = Record(
    task: UInt(bitPattern: task), parent: UInt(bitPattern: parent), pid: task_pid(task), tgid: task_tgid(task),
    uid: task_uid(task), flags: task_flags(task), state: task_state(task), reserved: 0, start: task_start(task),
    userTime: task_user_time(task), systemTime: task_system_time(task),
    name: name.loadUnaligned(as: (UInt, UInt).self))
  grass_emit(run, 1, UInt32(truncatingIfNeeded: MemoryLayout<Record>.size))?.storeBytes(of: record, as: Record.self)
}

/// The entry that this lane looks at: the table's root in the first stage, then a slot of the node that is its item.
func entry(_ run: OpaquePointer) -> Entry? {
  if grass_stage(run) == 0 { return grass_lane(run) == 0 ? Entry(pid_table()) : nil }
  guard let node = UnsafeRawPointer(bitPattern: UInt(grass_item(run, 0))) else { return nil }
  let entry = Entry(node_slot(node, grass_lane(run)))
  // A leaf has objects, and marks that look like nodes.
  return node_shift(node) == 0 && entry.node != nil ? nil : entry
}

@c(swift_ps_lane) public func ps(run: OpaquePointer) {
  guard let entry = entry(run) else { return }
  if let node = entry.node {
    grass_next(run, node, 0)
  } else if let pid = entry.object, let link = first_task(pid), let task = task_of(link) {
    emit(task, run)
  }
}
