// What waits in the small Linux: timers, work, locks on files; and the control groups of its tasks.

extension SyntheticLinux {
  /// Functions, as offsets in the image.
  private static let functions: [(name: String, offset: UInt64)] = [
    ("delayed_work_timer_fn", 0x100), ("hrtimer_wakeup", 0x200), ("some_work", 0x300), ("other_timer", 0x400),
    ("_etext", 0x1000),
  ]
  package static func function(_ name: String) -> UInt64 {
    SyntheticKernel.base + (functions.first { $0.name == name }?.offset ?? 0)
  }

  /// How many bytes one wheel of timers takes: two of them lie between their symbol and the next one.
  private static let wheelSize = UInt64(8 + timerBuckets * 8)

  static var waitingSymbols: [(String, UInt64)] {
    functions.map { ($0.name, SyntheticKernel.base + $0.offset) } + [
      ("__per_cpu_offset", Place.perCPUOffsets), ("modules", Place.modules), ("timer_bases", Place.timerBases),
      ("tick_cpu_device", Place.timerBases + 2 * wheelSize), ("hrtimer_bases", Place.clockBases),
      ("file_lock_list", Place.fileLocks), ("workqueues", Place.workQueues), ("worker_pool_idr", Place.poolTable),
      ("cgroup_roots", Place.groupRoots), ("cgroup_subsys", Place.subsystems), ("cgrp_dfl_root", Place.defaultRoot),
    ]
  }

  /// Joins the links of a list, the first of which is its head.
  package mutating func ring(_ links: UInt64...) {
    for (index, link) in links.enumerated() {
      put(links[(index + 1) % links.count], at: link)
      put(links[(index + links.count - 1) % links.count], at: link + 8)
    }
  }

  /// Four CPUs, with copies of the variables of each, and no modules.
  mutating func writeProcessors() {
    for cpu in 0..<4 {
      put(Place.copy(of: Place.timerBases, cpu: cpu) &- Place.timerBases, at: Place.perCPUOffsets + UInt64(cpu) * 8)
    }
    ring(Place.modules)
  }

  // MARK: Timers

  /// The place of a bucket's first timer.
  package func bucket(_ index: Int, wheel: Int = 0, cpu: Int = 0) -> UInt64 {
    Place.copy(of: Place.timerBases, cpu: cpu) + UInt64(wheel) * Self.wheelSize + offset("timer_base", "vectors")
      + UInt64(index) * 8
  }
  /// The place of the root of a clock's tree.
  package func clockRoot(_ clock: Int, cpu: Int = 1) -> UInt64 {
    Place.copy(of: Place.clockBases, cpu: cpu) + offset("hrtimer_cpu_base", "clock_base")
      + UInt64(clock) * size("hrtimer_clock_base") + offset("hrtimer_clock_base", "active.rb_root.rb_root.rb_node")
  }
  package static let delayedWork = Place.timers
  package static let plainTimer = Place.timers + 0x80
  /// A timer of high resolution, which wakes a task.
  package static func sleeper(_ index: Int) -> UInt64 { Place.timers + 0x100 + UInt64(index) * 0x80 }

  /// In bucket 3 of CPU 0 a work that is delayed and a plain timer; in a tree of CPU 1 three sleepers.
  mutating func writeTimers() {
    put(1000, at: Self.scalar("jiffies_64"))
    let delayed = Self.delayedWork + offset("delayed_work", "timer")
    put(delayed, at: bucket(3))
    set(
      "timer_list", at: delayed,
      ["entry.next": Self.plainTimer, "expires": 1250, "function": Self.function("delayed_work_timer_fn")])
    set("delayed_work", at: Self.delayedWork, ["work.func": Self.function("some_work")])
    set("timer_list", at: Self.plainTimer, ["expires": 999, "function": Self.function("other_timer")])
    put(Self.sleeper(0), at: clockRoot(0))
    for (index, seconds) in [20, 10, 30].enumerated() as EnumeratedSequence<[UInt64]> {
      set(
        "hrtimer_sleeper", at: Self.sleeper(index),
        [
          "timer.node.expires": seconds * 1_000_000_000 + 1500, "timer.function": Self.function("hrtimer_wakeup"),
          "task": Place.task(index == 0 ? 0 : 2),
        ])
    }
    set("rb_node", at: Self.sleeper(0), ["rb_left": Self.sleeper(1), "rb_right": Self.sleeper(2)])
  }

  // MARK: Work

  package static let queue = Place.work
  package static let poolWorkQueue = Place.work + 0x200
  package static let pool = Place.work + 0x300
  package static let poolWorker = Place.work + 0x400
  package static let poolNode = Place.work + 0x800
  /// Works that run, wait in the pool, are the worker's next, and are held back.
  package static func work(_ index: Int) -> UInt64 { Place.work + 0x500 + UInt64(index) * 0x40 }

  /// A queue, its pool with one worker, and a work in each state.
  mutating func writeWork() {
    ring(Place.workQueues, Self.queue + offset("workqueue_struct", "list"))
    set("workqueue_struct", at: Self.queue, "name", text: "events")
    let joint = Self.poolWorkQueue
    ring(Self.queue + offset("workqueue_struct", "pwqs"), joint + offset("pool_workqueue", "pwqs_node"))
    set("pool_workqueue", at: joint, ["pool": Self.pool, "wq": Self.queue, "nr_active": 3])
    let entry = offset("work_struct", "entry")
    ring(joint + offset("pool_workqueue", "inactive_works"), Self.work(3) + entry)
    put(Self.poolNode | 2, at: Place.poolTable + offset("idr", "idr_rt.xa_head"))
    setSlot(of: Self.poolNode, 0, Self.pool)
    set(
      "worker_pool", at: Self.pool,
      ["id": 7, "cpu": 1, "nr_workers": 1, "nr_idle": 0, "attrs": Self.pool + 0x80])
    ring(Self.pool + offset("worker_pool", "worklist"), Self.work(1) + entry)
    ring(Self.pool + offset("worker_pool", "workers"), Self.poolWorker + offset("worker", "node"))
    set(
      "worker", at: Self.poolWorker,
      [
        "pool": Self.pool, "task": Place.task(1), "current_work": Self.work(0),
        "current_func": Self.function("some_work"), "current_pwq": joint,
      ])
    ring(Self.poolWorker + offset("worker", "scheduled"), Self.work(2) + entry)
    for index in 0..<4 {
      // WORK_STRUCT_PWQ: the rest of the word is the queue's.
      set("work_struct", at: Self.work(index), ["data": joint | 4, "func": Self.function("some_work")])
    }
  }

  // MARK: Locks on files

  package static func fileLock(_ index: Int) -> UInt64 { Place.files + UInt64(index) * 0x80 }
  package static let lockedFile = Place.files + 0x400
  package static let lockedEntry = Place.files + 0x600
  /// Of task 0: a table of eight descriptors, of which 3 is the locked file.
  package static let descriptorTable = Place.files + 0x840
  package static let descriptors = Place.files + 0x880
  /// The place of the first lock that a CPU keeps.
  package func heldLocks(cpu: Int) -> UInt64 {
    Place.copy(of: Place.fileLocks, cpu: cpu) + offset("file_lock_list_struct", "hlist.first")
  }

  /// Lock 0 is held, 1 waits for it, and 2 for 1; all on the file `/locked`.
  mutating func writeFileLocks() {
    let (requests, member) = (
      offset("file_lock", "fl_blocked_requests"), offset("file_lock", "fl_blocked_member")
    )
    put(Self.fileLock(0) + offset("file_lock", "fl_link"), at: heldLocks(cpu: 1))
    for index in 0..<3 {
      let next = index < 2 ? [Self.fileLock(index + 1) + member] : []
      if let next = next.first {
        ring(Self.fileLock(index) + requests, next)
      } else {
        ring(Self.fileLock(index) + requests)
      }
      // FL_POSIX or FL_FLOCK; F_WRLCK.
      set(
        "file_lock", at: Self.fileLock(index),
        [
          "fl_flags": index == 0 ? 1 : 2, "fl_type": 1, "fl_pid": UInt64(SyntheticLinux.pidNumbers[index]),
          "fl_file": Self.lockedFile, "fl_start": 10, "fl_end": 29,
        ])
    }
    let (inode, block, root, mount) = (
      Self.lockedFile + 0x40, Self.lockedFile + 0xc0, Self.lockedEntry + 0x80, Self.lockedEntry + 0x100
    )
    let visible = mount + offset("mount", "mnt")
    set(
      "file", at: Self.lockedFile,
      ["f_inode": inode, "f_path.mnt": visible, "f_path.dentry": Self.lockedEntry])
    set("inode", at: inode, ["i_ino": 77, "i_sb": block])
    set("task_struct", at: Place.task(0), ["files": Place.files + 0x800])
    set("files_struct", at: Place.files + 0x800, ["fdt": Self.descriptorTable])
    set("fdtable", at: Self.descriptorTable, ["max_fds": 8, "fd": Self.descriptors])
    put(Self.lockedFile, at: Self.descriptors + 3 * 8)
    set("super_block", at: block, ["s_dev": 8 << 20 | 3])
    for (entry, name) in [(Self.lockedEntry, "locked"), (root, "/")] {
      set(
        "dentry", at: entry,
        [
          "d_parent": root, "d_name.len": UInt64(name.utf8.count), "d_name.name": entry + offset("dentry", "d_iname"),
          "d_hash.pprev": entry,
        ])
      set("dentry", at: entry, "d_iname", text: name)
    }
    set("mount", at: mount, ["mnt_parent": mount, "mnt_mountpoint": root, "mnt.mnt_root": root])
  }

  // MARK: Control groups

  /// The root's own, then `outer` and, in it, `inner`.
  package func group(_ index: Int) -> UInt64 {
    index == 0
      ? Place.defaultRoot + offset("cgroup_root", "cgrp") : Place.groups + 0x100 + UInt64(index) * 0x100
  }
  package func groupNode(_ index: Int) -> UInt64 { Place.groups + 0x600 + UInt64(index) * 0x40 }
  package static let groupSet = Place.groups + 0x500
  package static let memoryGroup = Place.groups + 0x800

  /// Version 2 with two controllers; tasks 0 and 2 are in the inner group, which has limits.
  mutating func writeControlGroups() {
    for (index, name) in ["memory", "pids"].enumerated() {
      let (controller, text) = (Place.groups + UInt64(index) * 0x40, Place.groupNames + UInt64(index) * 0x10)
      put(controller, at: Place.subsystems + UInt64(index) * 8)
      put(Array(name.utf8) + [0], at: text)
      set("cgroup_subsys", at: controller, ["name": text, "legacy_name": text, "root": Place.defaultRoot])
    }
    ring(Place.groupRoots, Place.defaultRoot + offset("cgroup_root", "root_list"))
    set("cgroup_root", at: Place.defaultRoot, ["subsys_mask": 3, "nr_cgrps": 3])
    let (children, sibling) = (offset("cgroup", "self.children"), offset("cgroup", "self.sibling"))
    for (index, name) in ["", "outer", "inner"].enumerated() {
      let group = group(index)
      if index < 2 { ring(group + children, self.group(index + 1) + sibling) } else { ring(group + children) }
      set(
        "cgroup", at: group,
        [
          "root": Place.defaultRoot, "level": UInt64(index), "kn": groupNode(index), "subtree_control": 3,
          // CSS_ONLINE
          "self.flags": 2, "self.parent": index == 0 ? 0 : self.group(index - 1) + offset("cgroup", "self"),
        ])
      let text = Place.groupNames + 0x40 + UInt64(index) * 0x10
      put(Array(name.utf8) + [0], at: text)
      set(
        "kernfs_node", at: groupNode(index),
        ["parent": index == 0 ? 0 : groupNode(index - 1), "name": text, "id": UInt64(index) + 1])
    }
    let states = group(2) + offset("cgroup", "subsys")
    put(Self.memoryGroup, at: states)
    put(Self.memoryGroup + 0x100, at: states + 8)
    set(
      "mem_cgroup", at: Self.memoryGroup,
      ["memory.usage": 5, "memory.max": 100, "memory.high": UInt64(Int64.max) / 4096])
    set("pids_cgroup", at: Self.memoryGroup + 0x100, ["counter": 2, "limit": 40])
    let link = Self.groupSet + 0x40
    ring(Self.groupSet + offset("css_set", "cgrp_links"), link + offset("cgrp_cset_link", "cgrp_link"))
    set("cgrp_cset_link", at: link, ["cgrp": group(2)])
    for index in [0, 2] { set("task_struct", at: Place.task(index), ["cgroups": Self.groupSet]) }
  }
}
