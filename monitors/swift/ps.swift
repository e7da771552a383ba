// The tasks of the host, as ps.c has them: the same records from Embedded Swift, stage by stage down the pid table as
// tasks.h goes. What Swift would trap on is undefined in a monitor: hence the operators that wrap.

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
  var record = grass_ps_task()
  record.task = UInt64(UInt(bitPattern: task))
  record.parent = UInt64(UInt(bitPattern: parent))
  record.pid = task_pid(task)
  record.tgid = task_tgid(task)
  record.uid = task_uid(task)
  record.flags = task_flags(task)
  record.state = task_state(task)
  record.exit_state = task_exit_state(task)
  record.start_boottime = UInt64(task_start(task))
  record.utime = UInt64(task_user_time(task))
  record.stime = UInt64(task_system_time(task))
  record.comm = unsafeBitCast(name.loadUnaligned(as: (UInt, UInt).self), to: type(of: record.comm))
  grass_emit(run, GRASS_PS_TASK.rawValue, UInt32(truncatingIfNeeded: MemoryLayout<grass_ps_task>.size))?
    .storeBytes(of: record, as: grass_ps_task.self)
}

/// Slots of a node, and the bits of an index that choose one.
let slotCount: UInt32 = 64
let slotBits: UInt = 6

/// The entry that this lane looks at, and the shift of the node it is in.
///
/// Nil where the lane has nothing to do any more.
func entry(_ run: OpaquePointer) -> (Entry, UInt)? {
  let lane = grass_lane(run)
  if grass_stage(run) > 0 {
    guard let node = UnsafeRawPointer(bitPattern: UInt(grass_item(run, 0))) else { return nil }
    return (Entry(node_slot(node, lane)), grass_item(run, 1))
  }
  if lane >= slotCount { return nil }
  let head = Entry(pid_table())
  guard let address = head.node, let node = UnsafeRawPointer(bitPattern: address) else {
    return lane == 0 ? (head, 0) : nil
  }
  if grass_lanes(run) < slotCount {
    if lane == 0 { grass_next(run, address, UInt(node_shift(node))) }
    return nil
  }
  return (Entry(node_slot(node, lane)), UInt(node_shift(node)))
}

@c(swift_ps_lane) public func ps(run: OpaquePointer) {
  guard let (entry, shift) = entry(run) else { return }
  if let node = entry.node {
    if shift >= slotBits { grass_next(run, node, shift &- slotBits) }
  } else if let pid = entry.object, let link = first_task(pid), let task = task_of(link) {
    emit(task, run)
  }
}
