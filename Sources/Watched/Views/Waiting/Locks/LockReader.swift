import Binding
import KernelInfo
public import LinuxKernel
public import Memory
import Paging
import TaskViews

/// Finds the locks that tasks sleep for, without unwinding their stacks.
///
/// A task that waits for a mutex, a rwsem or a semaphore has a waiter in its kernel stack: two links of a list, then a
/// pointer to the task itself. Such words are a waiter when both neighbours in the list lead back to it. The list closes in
/// the lock; which kind of lock that is says the function that waits, whose return address lies below the waiter.
/// From 7.1 on the list has waiters only, and the lock names the first of them: then it is what a word of a waiter's stack
/// leads to and names one of the list. A task that waits for a rt_mutex names its waiter.
///
/// Source: kernel/locking/mutex.c, `__mutex_lock_common`; kernel/locking/rwsem.c, `rwsem_down_write_slowpath`;
/// kernel/locking/semaphore.c, `___down_common`; kernel/locking/rtmutex.c, `task_blocks_on_rt_mutex`.
struct LockReader: KernelReader {
  static let subject = "the locks"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let stack = Field<UInt64>("stack")
    let stackPointer = Field<UInt64>("thread.sp")
    let blockedOn = Field<VirtualAddress?>(optional: "pi_blocked_on")
  }

  /// A mutex, or another lock with a list of those who wait.
  private struct Lock: KernelShape {
    static let type = "mutex"
    let owner = Field<UInt64>(optional: "owner")
    let count = Field<UInt64>(optional: "count")
    /// The head of the list, or the pointer to the first of them.
    let waiters = Place("first_waiter", before: "7.1", "wait_list")
    /// Where it is such a pointer, the list is one of waiters only.
    let first = Place(optional: "first_waiter")
  }

  private struct SlowLock: KernelShape {
    static let type = "rt_mutex_base"
    let owner = Field<UInt64>("owner")
  }

  /// Begins with its links. The same for all kinds but rt_mutexes.
  private struct WaiterShape: KernelShape {
    static let type = "mutex_waiter"
    let task = Field<VirtualAddress>("task")
  }

  private struct ReadWaiter: KernelShape {
    static let type = "rwsem_waiter"
    let type = Field<Int64>(optional: "type")
  }

  private struct SlowWaiter: KernelShape {
    static let type = "rt_mutex_waiter"
    let lock = Field<VirtualAddress>("lock")
    let task = Field<VirtualAddress>("task")
  }

  private let task: Bound<Task>
  private let stackSize: UInt64
  private let locks: [KernelLock.Kind: Bound<Lock>]
  private let slowLock: Bound<SlowLock>?
  private let waiter: Bound<WaiterShape>, readWaiter: Bound<ReadWaiter>, slowWaiter: Bound<SlowWaiter>
  private let wantsToRead: Int64
  private let symbols: SymbolTable

  /// More tasks than ever wait for one lock, and words in one stack that may be a waiter.
  private static let mostWaiters = 1 << 16
  private static let mostCandidates = 32
  /// How far from a waiter the function that waits is looked for, in words.
  private static let frame = 64

  init(kernel: Kernel) throws { try self.init(kernel.types, kernel.symbols) }

  init(_ types: TypeTable, _ symbols: SymbolTable) throws {
    self.symbols = symbols
    (task, slowWaiter) = try types.bind()
    // THREAD_SIZE is 16 KiB; twice that and more in kernels that watch their own accesses.
    let first = symbols.address(of: "init_stack").flatMap { symbols.size(ofSymbolAt: $0) } ?? 0
    stackSize = [16384, 32768, 65536].contains(first) ? first : 16384

    var locks: [KernelLock.Kind: Bound<Lock>] = [:]
    for (kind, name) in [(.mutex, "mutex"), (.rwsem, "rw_semaphore"), (.semaphore, "semaphore")]
      as [(KernelLock.Kind, String)]
    {
      // On real-time kernels the first two are rt_mutexes inside.
      guard let lock = try? Bound<Lock>(types, as: name), kind == .semaphore || lock.owner.isPresent else { continue }
      locks[kind] = lock
    }
    self.locks = locks
    // The part that kernels with and without real-time locks share is a struct of its own from 5.15 on.
    slowLock = try? Bound(types, as: types.hasStructure("rt_mutex_base") ? "rt_mutex_base" : "rt_mutex")
    let name = types.hasStructure("mutex_waiter") ? "mutex_waiter" : "semaphore_waiter"
    waiter = try Bound(types, as: name)
    readWaiter = try Bound(types, as: types.hasStructure("rwsem_waiter") ? "rwsem_waiter" : name)
    wantsToRead = types.enumerator("RWSEM_WAITING_FOR_READ") ?? -1
  }

  /// A waiter found in a stack.
  private struct Waiter {
    var link: VirtualAddress
    var next: VirtualAddress
    var previous: VirtualAddress
    var kind: KernelLock.Kind
    /// What in the stack may be the address of the lock, where that names its first waiter.
    var words: [VirtualAddress] = []
  }

  func read(_ tasks: [KernelTask], in space: AddressSpace) -> LockTable {
    var table = LockTable()
    let parties = Self.parties(tasks)
    // What runs waits for nothing, and its stack changes while it is read.
    let sleeping = tasks.filter { $0.state != .running }
    var stacks = ReadBatch<VirtualAddress>()
    var owners: [(task: VirtualAddress, start: VirtualAddress)] = []
    var ranges: [VirtualAddress: Range<UInt64>] = [:]
    var slow: [VirtualAddress] = []
    space.read(task, at: sleeping.map(\.address)).forEach(&table.faults) { (task) throws(MemoryFault) in
      let low = try task.stack
      let pointer = try task.stackPointer
      if let waiter = try task.blockedOn { slow.append(waiter) }
      // A task that has ended has given its stack back.
      guard low != 0 else { return }
      let (high, overflow) = low.addingReportingOverflow(stackSize)
      if !overflow { ranges[task.address] = low..<high }
      guard !overflow, pointer >= low, pointer < high, pointer % 8 == 0 else {
        throw MemoryFault(.virtual(task.address), .inconsistent("a task whose stack pointer lies outside its stack"))
      }
      owners.append((task.address, VirtualAddress(pointer)))
      stacks.add(VirtualAddress(pointer), count: Int(high - pointer))
    }
    space.read(&stacks)
    var waiters: [VirtualAddress: Waiter] = [:]
    for (index, owner) in owners.enumerated() {
      let found = table.faults.keep { () throws(MemoryFault) in
        try candidates(try stacks.reader(index), owner.start, task: owner.task)
      }
      for waiter in found ?? [] { waiters[waiter.link] = waiter }
    }
    let confirmed = confirm(waiters, in: space)
    findLocks(of: confirmed, parties, ranges, in: space, &table)
    findSlowLocks(slow, parties, in: space, &table)
    table.locks.sort { $0.address < $1.address }
    return table
  }

  private static func parties(_ tasks: [KernelTask]) -> [VirtualAddress: KernelLock.Party] {
    Dictionary(
      tasks.map { ($0.address, KernelLock.Party(tid: $0.tid, comm: $0.comm)) }, uniquingKeysWith: { first, _ in first })
  }

  /// The words of a stack that look like a waiter of its task.
  private func candidates(
    _ reader: borrowing ByteReader, _ start: VirtualAddress, task: VirtualAddress
  ) throws(MemoryFault) -> [Waiter] {
    var found: [Waiter] = []
    let waiterTask = waiter.task.offset
    for offset in stride(from: waiterTask, to: reader.count - 7, by: 8)
    where try reader.u64(offset) == task.rawValue {
      let (next, previous) = (try reader.pointer(offset - waiterTask), try reader.pointer(offset - waiterTask + 8))
      let link = start + (offset - waiterTask)
      guard [next, previous].allSatisfy({ $0.rawValue >> 63 == 1 && $0.rawValue % 8 == 0 }) else { continue }
      // Entries of other lists are followed by their task, too; no function near them waits for a lock.
      guard let kind = try kind(reader, near: (offset - waiterTask) / 8) else { continue }
      var waiter = Waiter(link: link, next: next, previous: previous, kind: kind)
      if locks[kind]?.first.isPresent ?? false {
        waiter.words = try Self.pointers(reader)
      } else if next == link || previous == link {
        // A list without its head.
        continue
      }
      found.append(waiter)
      if found.count == Self.mostCandidates { break }
    }
    return found
  }

  /// The words of a stack that may be addresses of the kernel's, each once.
  private static func pointers(_ reader: borrowing ByteReader) throws(MemoryFault) -> [VirtualAddress] {
    var words: Set<UInt64> = []
    for offset in stride(from: 0, to: reader.count - 7, by: 8) {
      let word = try reader.u64(offset)
      if word >> 63 == 1, word % 8 == 0 { words.insert(word) }
    }
    return words.sorted().map { VirtualAddress($0) }
  }

  /// The kind of lock that the function waits for whose return address lies next to word `place`: below it first.
  private func kind(_ reader: borrowing ByteReader, near place: Int) throws(MemoryFault) -> KernelLock.Kind? {
    let below = stride(from: place - 1, through: max(0, place - Self.frame), by: -1)
    let above = place..<min(place + Self.frame, reader.count / 8)
    for word in Array(below) + Array(above) {
      let value = try reader.u64(word * 8)
      guard value >> 63 == 1, let symbol = symbols.symbol(containing: VirtualAddress(value)) else { continue }
      let name = symbol.name
      if name.hasPrefix("__mutex_lock") || name.hasPrefix("__ww_mutex_lock") { return .mutex }
      if ["rwsem_down_", "down_read", "down_write", "__down_read", "__down_write"].contains(where: name.hasPrefix) {
        return .rwsem
      }
      if name.hasPrefix("__down") || name.hasPrefix("___down") { return .semaphore }
    }
    return nil
  }

  /// Those whose neighbours lead back to them.
  private func confirm(_ waiters: [VirtualAddress: Waiter], in space: AddressSpace) -> [VirtualAddress: Waiter] {
    let all = Array(waiters.values)
    // prev is the second word of a list_head, next the first.
    let links = space.pointers(at: all.map { $0.next + 8 } + all.map(\.previous))
    let confirmed = all.indices.filter { links[$0] == all[$0].link && links[all.count + $0] == all[$0].link }
    return Dictionary(confirmed.map { (all[$0].link, all[$0]) }, uniquingKeysWith: { first, _ in first })
  }

  /// Walks the lists that waiters are in, and finds the lock of each.
  private func findLocks(
    of waiters: [VirtualAddress: Waiter], _ parties: [VirtualAddress: KernelLock.Party],
    _ stacks: [VirtualAddress: Range<UInt64>], in space: AddressSpace, _ table: inout LockTable
  ) {
    var seen: Set<VirtualAddress> = []
    for waiter in waiters.values.sorted(by: { $0.link < $1.link }) where !seen.contains(waiter.link) {
      let walker = ListWalker(space: space, form: .circular, limit: Self.mostWaiters)
      let ring = walker.members(of: [.init(head: waiter.link, first: waiter.next)])
      let members = [waiter.link] + ring.lists[0]
      seen.formUnion(members)
      // Another task's waiter may have come since its stack was read.
      let tasks = space.pointers(at: members.map { $0 + self.waiter.task.offset })
      let heads = members.indices.filter { index in
        if waiters[members[index]] != nil { return false }
        guard let stack = stacks[tasks[index]] else { return true }
        return !stack.contains(members[index].rawValue)
      }
      let kind = waiter.kind
      guard let bound = locks[kind] else { continue }
      let namesFirst = bound.first.isPresent
      // The one member that is no waiter lies in the lock, or none is there.
      guard ring.faults.isEmpty, heads.count == (namesFirst ? 0 : 1) else {
        table.faults += ring.faults
        table.faults.append(
          MemoryFault(.virtual(waiter.link), .inconsistent("a list of waiters that closes in no lock, or in several")))
        continue
      }
      let lock = table.faults.keep { () throws(MemoryFault) -> KernelLock? in
        let found =
          if namesFirst {
            try self.lock(kind, ofWaiter: waiter, among: Set(members), bound, in: space)
          } else {
            heads.first.map { members[$0] - bound.waiters.offset }
          }
        // What only looks like a waiter, such as an entry of a wait queue, leads to no lock that says that somebody waits.
        guard let found, try saysThatSomebodyWaits(kind, at: found, bound, in: space) else { return nil }
        return try self.lock(kind, at: found, bound, parties, in: space)
      }
      if let lock = lock ?? nil { table.locks.append(lock) }
    }
  }

  /// The lock that names one of `members` as its first waiter, to which a word of the waiter's stack leads; nil where what
  /// looks like a waiter is none. Cost: two round trips.
  private func lock(
    _ kind: KernelLock.Kind, ofWaiter waiter: Waiter, among members: Set<VirtualAddress>, _ bound: Bound<Lock>,
    in space: AddressSpace
  ) throws(MemoryFault) -> VirtualAddress? {
    let firsts = space.pointers(at: waiter.words.map { $0 + bound.waiters.offset })
    // Most words lead elsewhere, or nowhere.
    for (word, first) in zip(waiter.words, firsts) where members.contains(first) {
      if try saysThatSomebodyWaits(kind, at: word, bound, in: space) { return word }
    }
    return nil
  }

  /// The waiters in the lock's list, in its order.
  private func waiters(
    of address: VirtualAddress, _ bound: Bound<Lock>, in space: AddressSpace
  ) throws(MemoryFault) -> [VirtualAddress] {
    var head = address + bound.waiters.offset
    if bound.first.isPresent {
      head = try space.pointer(at: head)
      if head.rawValue == 0 { return [] }
    }
    let list = ListWalker(space: space, form: .circular, limit: Self.mostWaiters).members(ofHeads: [head])
    if let fault = list.faults.first { throw fault }
    return (bound.first.isPresent ? [head] : []) + list.lists[0]
  }

  /// Whether the lock's own state fits a list of waiters that is not empty.
  private func saysThatSomebodyWaits(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ bound: Bound<Lock>, in space: AddressSpace
  ) throws(MemoryFault) -> Bool {
    let lock = space.read(bound, at: [address])[0]
    return switch kind {
    // MUTEX_FLAG_WAITERS.
    case .mutex: try lock.owner & 1 == 1
    // RWSEM_FLAG_WAITERS.
    case .rwsem: try lock.count & 2 == 2
    case .semaphore: try lock.count == 0
    case .rtmutex: false
    }
  }

  /// The lock at `address`, with who waits for it. Cost: a round trip for each two waiters or so.
  private func lock(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ bound: Bound<Lock>,
    _ parties: [VirtualAddress: KernelLock.Party], in space: AddressSpace
  ) throws(MemoryFault) -> KernelLock {
    let lock = space.read(bound, at: [address])[0]
    // The lowest bits of an owner are flags (MUTEX_FLAGS, RWSEM_OWNER_FLAGS_MASK; both three at most).
    let owner = VirtualAddress(try lock.owner & ~7)
    let links = try waiters(of: address, bound, in: space)
    let (found, readers) = space.read((waiter, links), (readWaiter, kind == .rwsem ? links : []))
    let waiters = try found.map { (waiter) throws(MemoryFault) in
      var party = try Self.party(try waiter.task, parties)
      if kind == .rwsem { party.wantsToRead = try readers[waiter.index].type == wantsToRead }
      return party
    }
    // The count of readers lies above eight bits of flags (RWSEM_READER_SHIFT); the highest bit is a guard.
    let count = kind == .rwsem ? Int(clamping: (try lock.count & (1 << 63 - 1)) >> 8) : nil
    // RWSEM_READER_OWNED: the last that read, and it may long have ended.
    let isRead = kind == .rwsem ? try lock.owner & 1 == 1 : false
    return KernelLock(
      kind: kind, address: address, symbol: name(of: address), owner: parties[owner], readers: count, waiters: waiters,
      holder: owner.rawValue == 0 || isRead || kind == .semaphore ? nil : owner)
  }

  private static func party(
    _ task: VirtualAddress, _ parties: [VirtualAddress: KernelLock.Party]
  ) throws(MemoryFault) -> KernelLock.Party {
    guard let party = parties[task] else {
      throw MemoryFault(.virtual(task), .inconsistent("what waits for a lock is no task"))
    }
    return party
  }

  private func name(of address: VirtualAddress) -> String? {
    symbols.symbol(containing: address).map { symbol in
      let distance = address.distance(from: symbol.address)
      return distance == 0 ? symbol.name : "\(symbol.name)+0x\(String(distance, radix: 16))"
    }
  }

  private func findSlowLocks(
    _ waiters: [VirtualAddress], _ parties: [VirtualAddress: KernelLock.Party], in space: AddressSpace,
    _ table: inout LockTable
  ) {
    guard let slowLock else { return }
    var found: [VirtualAddress: [KernelLock.Party]] = [:]
    space.read(slowWaiter, at: waiters).forEach(&table.faults) { (waiter) throws(MemoryFault) in
      found[try waiter.lock, default: []].append(try Self.party(try waiter.task, parties))
    }
    space.read(slowLock, at: Array(found.keys)).forEach(&table.faults) { (lock) throws(MemoryFault) in
      // The lowest bit says that somebody waits (RT_MUTEX_HAS_WAITERS).
      let holder = VirtualAddress(try lock.owner & ~1)
      table.locks.append(
        KernelLock(
          kind: .rtmutex, address: lock.address, symbol: name(of: lock.address), owner: parties[holder], readers: nil,
          waiters: found[lock.address] ?? [], holder: holder.rawValue == 0 ? nil : holder))
    }
  }

  /// The lock of `kind` at `address`, whether anybody waits for it or not.
  func lock(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ tasks: [KernelTask], in space: AddressSpace
  ) throws -> KernelLock {
    guard let bound = locks[kind] else {
      throw KernelError(
        "the \(kind.rawValue) at \(address)", .inconsistent("this kernel has none of the form known here"))
    }
    return try lock(kind, at: address, bound, Self.parties(tasks), in: space)
  }
}

extension Kernel {
  /// The locks that tasks wait for, and the locks on files.
  ///
  /// Cost: that of ``tasks(_:)``, the stacks of all tasks that sleep as far as they are in use, and some round trips for each
  /// lock found.
  public func locks() throws(KernelError) -> LockTable {
    let files = try reader(FileLockReader.self)
    let cpus = try cpus()
    return try read(with: LockReader.self) { reader in
      let tasks = try tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
      var table = reader.read(tasks.tasks, in: addressSpace)
      files.read(cpus, in: addressSpace, into: &table)
      return table
    }
  }

  /// The lock of `kind` at `address`: who holds it, and who waits. Cost: that of ``tasks(_:)`` and a few round trips.
  public func lock(_ kind: KernelLock.Kind, at address: VirtualAddress) throws(KernelError) -> KernelLock {
    let reader = try reader(LockReader.self)
    let tasks = try tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
    return try KernelError.reading("the \(kind.rawValue) at \(address)") {
      try reader.lock(kind, at: address, tasks.tasks, in: addressSpace)
    }
  }
}
