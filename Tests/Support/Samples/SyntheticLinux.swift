package import KernelInfo
package import Memory

/// Memory of 8 MiB with a small running Linux in it: page tables, tasks, a pid table, a log, a host's state, and what
/// waits: timers, work, locks on files, control groups.
///
/// ```
/// 0x20_0000  the image, as SyntheticKernel makes it; variables from 0x5_0000 into it
/// 0x30_0000  page tables of the kernel, then of the process
/// 0x38_0000  the process's memory
/// 0x40_0000  what the kernel allocated, reached through the direct map
/// ```
/// Tests change what they want by the names of structs and fields: everything stays at one place.
package struct SyntheticLinux {
  package private(set) var memory: SyntheticMemory
  package let types: TypeTable

  /// Where things are, as the kernel's virtual addresses.
  package enum Place {
    package static let initTask = variable(0)
    package static let pidNamespace = variable(1)
    package static let names = variable(2)
    package static let clock = variable(3)
    package static let masks = variable(4)
    package static let scalars = variable(5)
    package static let model = variable(6)
    package static let taints = variable(7)
    package static let counters = variable(8)
    package static let node = variable(9)
    package static let firstPID = variable(10)
    package static let namespaces = variable(11)
    package static let bases = variable(12)
    package static let log = allocated(0)
    package static let descriptors = allocated(1)
    package static let infos = allocated(2)
    package static let texts = allocated(3)
    package static let pidRoot = allocated(4)
    package static let pidLeaf = allocated(5)
    package static let secondPidLeaf = allocated(6)
    package static let pids = allocated(7)
    package static let tasks = allocated(8)
    package static let credentials = allocated(9)
    package static let signals = allocated(10)
    package static let memoryMap = allocated(11)
    package static let terminal = allocated(12)
    package static let worker = allocated(13)
    package static let commandLine = allocated(14)
    package static let devices = allocated(15)
    /// Variables of which each CPU has a copy: by their symbols, and the copy of a CPU.
    package static let timerBases = variable(10)
    package static let clockBases = variable(11)
    package static let fileLocks = variable(12)
    package static func copy(of variable: UInt64, cpu: Int) -> UInt64 {
      allocated(20 + cpu * 3) + (variable - timerBases)
    }
    /// Lists and tables that have heads of their own.
    package static let heads = variable(13)
    package static let workQueues = heads
    package static let poolTable = heads + 0x40
    package static let groupRoots = heads + 0x80
    package static let modules = heads + 0xc0
    package static let subsystems = heads + 0x100
    package static let perCPUOffsets = variable(14)
    package static let defaultRoot = variable(15)
    package static let timers = allocated(32)
    package static let work = allocated(33)
    package static let files = allocated(34)
    package static let groups = allocated(35)
    package static let groupNames = allocated(36)

    static func variable(_ page: Int) -> UInt64 { SyntheticKernel.base + 0x5_0000 + UInt64(page) << 12 }
    static func allocated(_ page: Int) -> UInt64 {
      SyntheticKernel.directMap + 0x40_0000 + UInt64(page) << 12
    }
    package static let memoryMapStart = SyntheticKernel.directMap + 1 << 40
    /// `struct pid` number `index`, and the task that it leads to.
    package static func pid(_ index: Int) -> UInt64 { pids + UInt64(index) * 0x100 }
    package static func task(_ index: Int) -> UInt64 { tasks + UInt64(index) * 0x400 }
  }

  /// The scalar variables, a word each from `Place.scalars`.
  package static let scalars = [
    "prb", "saved_command_line", "tainted_mask", "panic_cpu", "_totalram_pages", "total_swap_pages", "nr_swap_pages",
    "totalreserve_pages", "blockdev_superblock", "jiffies_64", "avenrun",
  ]
  package static func scalar(_ name: String) -> UInt64 {
    Place.scalars + UInt64(scalars.firstIndex(of: name) ?? 0) * 8
  }

  /// The tasks: init, a kernel worker, a shell with two threads.
  ///
  /// Pid 70 lies in a leaf of its own.
  package static let pidNumbers: [Int32] = [1, 2, 5, 70]
  package static let commandLine = Array("/sbin/init\0splash\0".utf8)
  /// Where the process keeps its arguments: they cross a page's end.
  package static let argumentStart: UInt64 = 0x7fff_1000 - 4
  package static let processRoot: UInt64 = 0x31_0000
  package static let kernelCommandLine = "root=/dev/vda ro quiet"
  package static let messages = ["Linux version 6.1.0-test-amd64", "Kernel command line: ro", "Run /sbin/init"]

  /// - Parameters:
  ///   - listsData: whether it lists its variables, as with CONFIG_KALLSYMS_ALL.
  ///   - wideCounts: whether counts are of 64 bits that are of 32 in a real kernel, as types that lie may say.
  package init(listsData: Bool = true, wideCounts: Bool = false) {
    let information = Self.typeInformation(wideCounts: wideCounts)
    let symbols: [(String, UInt64)] =
      [
        ("init_task", Place.initTask), ("init_pid_ns", Place.pidNamespace), ("init_uts_ns", Place.names),
        ("shadow_timekeeper", Place.clock), ("__cpu_online_mask", Place.masks),
        ("__cpu_possible_mask", Place.masks + 0x400), ("boot_cpu_data", Place.model), ("taint_flags", Place.taints),
        ("vm_zone_stat", Place.counters), ("vm_node_stat", Place.counters + 0x100), ("contig_page_data", Place.node),
      ] + Self.scalars.map { ($0, Self.scalar($0)) } + Self.waitingSymbols
    var kernel = SyntheticKernel(
      types: information, symbols: symbols.map { (name: $0, offset: Int($1 - SyntheticKernel.base)) })
    kernel.listsData = listsData
    memory = kernel.memory
    do {
      types = try TypeTable(information, release: kernel.release)
    } catch {
      fatalError("the synthetic types: \(error)")
    }
    writeBases()
    mapProcess()
    writeTasks()
    writePidTable()
    writeLog()
    writeHost()
    writeProcessors()
    writeTimers()
    writeWork()
    writeFileLocks()
    writeControlGroups()
  }

  // MARK: Writing

  /// The physical address of one of the kernel's own.
  package static func physical(_ address: UInt64) -> PhysicalAddress {
    PhysicalAddress(
      address >= SyntheticKernel.base
        ? address - SyntheticKernel.base + SyntheticKernel.physicalImage : address - SyntheticKernel.directMap)
  }

  package mutating func put(_ bytes: [UInt8], at address: UInt64) { memory.write(bytes, at: Self.physical(address)) }
  package mutating func put(_ value: UInt64, at address: UInt64) { put(bytes(value), at: address) }
  package mutating func putPhysical(_ value: UInt64, at address: UInt64) {
    memory.write(bytes(value), at: PhysicalAddress(address))
  }

  private func layout(_ structure: String, _ path: String) -> FieldLayout {
    do {
      return try types.structure(structure).field(path)
    } catch {
      fatalError("the synthetic types: \(error)")
    }
  }

  /// How far `path` lies from the start of its struct.
  package func offset(_ structure: String, _ path: String) -> UInt64 { UInt64(layout(structure, path).offset) }

  /// Sets fields of the struct at `address`, each cut to its size; an array by its first element.
  package mutating func set(_ structure: String, at address: UInt64, _ fields: [String: UInt64]) {
    for (path, value) in fields {
      let field = layout(structure, path)
      put(Array(bytes(value).prefix(field.elementSize)), at: address + UInt64(field.offset))
    }
  }

  /// Sets a field of characters.
  package mutating func set(_ structure: String, at address: UInt64, _ path: String, text: String) {
    let field = layout(structure, path)
    put(Array((Array(text.utf8) + [0]).prefix(field.size)), at: address + UInt64(field.offset))
  }

  // MARK: Page tables

  private mutating func entry(_ table: UInt64, _ address: UInt64, level: Int, _ value: UInt64) {
    let entry = SyntheticKernel.entry(table, address, level: level, value)
    putPhysical(entry.value, at: entry.place)
  }

  /// Beside each other where the direct map, the vmalloc area and the memory map start; the last is mapped as the first is.
  private mutating func writeBases() {
    let direct = SyntheticKernel.directMap
    put(bytes(direct, direct + 1 << 38, Place.memoryMapStart), at: Place.bases)
    entry(0x30_0000, Place.memoryMapStart, level: 4, 0x30_3000)
  }

  /// Two pages of the process: its arguments end one and begin the next.
  private mutating func mapProcess() {
    let start = Self.argumentStart
    for (level, table) in [(5, Self.processRoot), (4, 0x31_1000), (3, 0x31_2000), (2, 0x31_3000)] {
      entry(table, start, level: level, table + 0x1000)
    }
    entry(0x31_4000, start, level: 1, 0x38_0000)
    entry(0x31_4000, start + 0x1000, level: 1, 0x39_0000)
    memory.write(Array(Self.commandLine[..<4]), at: PhysicalAddress(0x38_0ffc))
    memory.write(Array(Self.commandLine[4...]), at: PhysicalAddress(0x39_0000))
  }

  // MARK: Tasks

  private mutating func writeTasks() {
    let link = offset("task_struct", "tasks")
    // The list holds leaders: the idle task, then tasks 0, 1 and 2. Task 3 is a thread of 2.
    let chain = [Place.initTask, Place.task(0), Place.task(1), Place.task(2)]
    for (index, task) in chain.enumerated() {
      set(
        "task_struct", at: task,
        [
          "tasks.next": chain[(index + 1) % chain.count] + link,
          "tasks.prev": chain[(index + chain.count - 1) % chain.count] + link,
        ])
    }
    set("task_struct", at: Place.initTask, "comm", text: "swapper/0")
    set(
      "task_struct", at: Place.initTask,
      [
        "real_parent": Place.initTask, "group_leader": Place.initTask, "thread_pid": Place.firstPID,
        "nsproxy": Place.namespaces,
      ])
    set("pid", at: Place.firstPID, ["numbers.ns": Place.pidNamespace])
    set("nsproxy", at: Place.namespaces, ["uts_ns": Place.names, "pid_ns_for_children": Place.pidNamespace])
    for (index, name) in ["init", "kworker/0:1", "sh", "sh-thread"].enumerated() {
      let isKernel = index == 1
      set(
        "task_struct", at: Place.task(index),
        [
          "pid": UInt64(Self.pidNumbers[index]), "tgid": UInt64(Self.pidNumbers[index == 3 ? 2 : index]),
          "__state": isKernel ? 0x402 : 1, "flags": isKernel ? 0x20_0020 : 0, "prio": 120, "static_prio": 120,
          "mm": isKernel ? 0 : Place.memoryMap, "real_parent": index == 0 ? Place.initTask : Place.task(0),
          "worker_private": isKernel ? Place.worker : 0, "real_cred": Place.credentials,
          "signal": Place.signals + UInt64(min(index, 2)) * 0x100, "start_boottime": UInt64(index) * 1_000_000_000,
          "utime": 30, "stime": 10, "se.sum_exec_runtime": 100, "thread_info.cpu": UInt64(index),
        ])
      set("task_struct", at: Place.task(index), "comm", text: name)
    }
    for index in 0..<3 {
      set(
        "signal_struct", at: Place.signals + UInt64(index) * 0x100,
        ["nr_threads": index == 2 ? 2 : 1, "tty": index == 2 ? Place.terminal : 0])
    }
    set("cred", at: Place.credentials, ["uid": 1000, "euid": 1001, "suid": 1002, "fsuid": 1003, "gid": 100])
    set(
      "mm_struct", at: Place.memoryMap,
      [
        "pgd": SyntheticKernel.directMap + Self.processRoot, "total_vm": 500, "rss_stat.count": 40,
        "arg_start": Self.argumentStart, "arg_end": Self.argumentStart + UInt64(Self.commandLine.count),
        "env_start": Self.argumentStart + UInt64(Self.commandLine.count),
        "env_end": Self.argumentStart + UInt64(Self.commandLine.count) + 100,
      ])
    set("tty_struct", at: Place.terminal, "name", text: "pts3")
    // A worker that works on something; its description stands behind its name.
    set("kthread", at: Place.worker, ["data": Place.worker + 0x100])
    set("worker", at: Place.worker + 0x100, ["pool": 1, "current_work": 1])
    set("worker", at: Place.worker + 0x100, "desc", text: "events")
  }

  /// A root over two leaves: pids below 64 in one, those from 64 on in the other.
  private mutating func writePidTable() {
    set("pid_namespace", at: Place.pidNamespace, ["idr.idr_rt.xa_head": Place.pidRoot | 2])
    set("xa_node", at: Place.pidRoot, ["shift": 6])
    setSlot(of: Place.pidRoot, 0, Place.pidLeaf | 2)
    setSlot(of: Place.pidRoot, 1, Place.secondPidLeaf | 2)
    for (index, number) in Self.pidNumbers.enumerated() {
      let slot = Int(number)
      setSlot(of: slot < 64 ? Place.pidLeaf : Place.secondPidLeaf, slot % 64, Place.pid(index))
      set(
        "pid", at: Place.pid(index),
        ["numbers.nr": UInt64(number), "tasks.first": Place.task(index) + offset("task_struct", "pid_links")])
    }
  }

  package mutating func setSlot(of node: UInt64, _ slot: Int, _ value: UInt64) {
    put(value, at: node + offset("xa_node", "slots") + UInt64(slot) * 8)
  }

  // MARK: The log

  /// Eight descriptors and 512 bytes of text; three records, the first of them with id 8.
  package static let firstRecord: UInt64 = 8
  package mutating func writeLog() {
    put(Place.log, at: Self.scalar("prb"))
    set(
      "printk_ringbuffer", at: Place.log,
      [
        "desc_ring.count_bits": 3, "desc_ring.descs": Place.descriptors, "desc_ring.infos": Place.infos,
        "desc_ring.tail_id": Self.firstRecord, "desc_ring.head_id": Self.firstRecord + UInt64(Self.messages.count) - 1,
        "text_data_ring.size_bits": 9, "text_data_ring.data": Place.texts,
      ])
    var position: UInt64 = 512
    for (index, message) in Self.messages.enumerated() { position = writeRecord(index, message, at: position) }
  }

  /// Writes record `index` with its text at a logical position, and returns where the next may begin.
  @discardableResult
  package mutating func writeRecord(_ index: Int, _ message: String, at position: UInt64) -> UInt64 {
    let id = Self.firstRecord + UInt64(index)
    let next = position + UInt64((8 + message.utf8.count + 7) & ~7)
    set(
      "prb_desc", at: descriptor(index),
      ["state_var": id | 2 << 62, "text_blk_lpos.begin": position, "text_blk_lpos.next": next])
    set(
      "printk_info", at: info(index),
      [
        "seq": UInt64(index), "ts_nsec": UInt64(index) * 1000, "text_len": UInt64(message.utf8.count), "level": 6,
      ])
    put(bytes(id) + Array(message.utf8), at: Place.texts + position % 512)
    return next
  }

  package func descriptor(_ index: Int) -> UInt64 { Place.descriptors + UInt64(index % 8) * size("prb_desc") }
  package func info(_ index: Int) -> UInt64 { Place.infos + UInt64(index % 8) * size("printk_info") }
  func size(_ structure: String) -> UInt64 { UInt64((try? types.structure(structure).size) ?? 0) }

  // MARK: The host

  private mutating func writeHost() {
    for (field, text) in [
      ("sysname", "Linux"), ("nodename", "small"), ("release", "6.1.0-test-amd64"), ("version", "#1 SMP"),
      ("machine", "x86_64"),
    ] { set("uts_namespace", at: Place.names, "name.\(field)", text: text) }
    set(
      "timekeeper", at: Place.clock,
      [
        "tkr_mono.shift": 4, "tkr_mono.xtime_nsec": 500 << 4, "tkr_mono.base": 1000, "xtime_sec": 9, "offs_boot": 2,
        "ntp_tick": 4_000_000 << 32,
      ])
    put(0b0111, at: Place.masks)
    put(0b1111, at: Place.masks + 0x400)
    set("cpuinfo_x86", at: Place.model, "x86_model_id", text: "Small CPU")
    for (bit, letter) in "PFSRMBUDAWCIOELKXTN".utf8.enumerated() {
      put([letter, UInt8(ascii: " ")], at: Place.taints + UInt64(bit) * 2)
    }
    put(Array(Self.kernelCommandLine.utf8) + [0], at: Place.commandLine)
    put(Place.commandLine, at: Self.scalar("saved_command_line"))
    put(1 << 12, at: Self.scalar("tainted_mask"))
    put(bytes(Int32(-1)), at: Self.scalar("panic_cpu"))
    put(2048, at: Self.scalar("_totalram_pages"))
    put(bytes(UInt64(2048), UInt64(1024), UInt64(0)), at: Self.scalar("avenrun"))
    put(300, at: Place.counters)
    for item in 0..<17 { put(UInt64(10 + item), at: Place.counters + 0x100 + UInt64(item) * 8) }
    // One block device of 7 cached pages.
    put(Place.devices, at: Self.scalar("blockdev_superblock"))
    let inode = Place.devices + 0x100
    let link = inode + offset("inode", "i_sb_list")
    set("super_block", at: Place.devices, ["s_inodes.next": link])
    set(
      "inode", at: inode,
      ["i_sb_list.next": Place.devices + offset("super_block", "s_inodes"), "i_mapping": Place.devices + 0x200])
    set("address_space", at: Place.devices + 0x200, ["nrpages": 7])
  }
}
