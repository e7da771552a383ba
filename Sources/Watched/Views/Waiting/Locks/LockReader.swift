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
  typealias Field = FieldSelection.Field

  private let task: FieldSelection
  private let stack, stackPointer, blockedOn: Field
  private let stackSize: UInt64
  private let shapes: [KernelLock.Kind: Shape]
  /// How far a waiter's pointer to its task lies from its links, which come first: the same for all kinds.
  private let waiterTask: Int
  private let waiterType: FieldLayout
  private let wantsToRead: Int64
  private let waitedFor, waitingTask: FieldLayout
  private let symbols: SymbolTable

  /// What a lock looks like.
  private struct Shape {
    var selection: FieldSelection
    var owner: Field?
    var count: Field?
    /// The head of the list of those who wait, or the pointer to the first of them.
    var waitList: Int
    /// Whether it is such a pointer, and the list one of waiters only.
    var namesFirst: Bool
  }

  /// More tasks than ever wait for one lock, and words in one stack that may be a waiter.
  private static let mostWaiters = 1 << 16
  private static let mostCandidates = 32
  /// How far from a waiter the function that waits is looked for, in words.
  private static let frame = 64

  init(kernel: Kernel) throws { try self.init(kernel.types, kernel.symbols) }

  init(_ types: TypeTable, _ symbols: SymbolTable) throws {
    self.symbols = symbols
    var fields = FieldSelection(try types.structure("task_struct"))
    stack = try fields.want("stack")
    stackPointer = try fields.want("thread.sp")
    blockedOn = try fields.wantIfPresent("pi_blocked_on")
    task = fields
    // THREAD_SIZE is 16 KiB; twice that and more in kernels that watch their own accesses.
    let first = symbols.address(of: "init_stack").flatMap { symbols.size(ofSymbolAt: $0) } ?? 0
    stackSize = [16384, 32768, 65536].contains(first) ? first : 16384

    var shapes: [KernelLock.Kind: Shape] = [:]
    for (kind, name, owner, count) in [
      (KernelLock.Kind.mutex, "mutex", "owner", nil), (.rwsem, "rw_semaphore", "owner", "count"),
      (.semaphore, "semaphore", nil, "count"), (.rtmutex, "rt_mutex_base", "owner", nil),
    ] as [(KernelLock.Kind, String, String?, String?)] {
      // On real-time kernels the first two are rt_mutexes inside.
      // The part that kernels with and without real-time locks share is a struct of its own from 5.15 on.
      let isOld = kind == .rtmutex && !types.hasStructure(name)
      guard let layout = try? types.structure(isOld ? "rt_mutex" : name) else { continue }
      let namesFirst = layout.hasField("first_waiter")
      let list = kind == .rtmutex ? "waiters" : namesFirst ? "first_waiter" : "wait_list"
      guard layout.hasField(list), owner.map(layout.hasField) ?? true else { continue }
      var fields = FieldSelection(layout)
      let ownerField = try owner.map { try fields.want($0) }
      let countField = try count.map { try fields.want($0) }
      shapes[kind] = Shape(
        selection: fields, owner: ownerField, count: countField, waitList: try layout.field(list).offset,
        namesFirst: namesFirst)
    }
    self.shapes = shapes
    let waiter = try types.structure(types.hasStructure("mutex_waiter") ? "mutex_waiter" : "semaphore_waiter")
    waiterTask = try waiter.field("task").offset
    let reading = types.hasStructure("rwsem_waiter") ? try types.structure("rwsem_waiter") : waiter
    waiterType = reading.hasField("type") ? try reading.field("type") : try reading.field("task")
    wantsToRead = types.enumerator("RWSEM_WAITING_FOR_READ") ?? -1
    let slow = try types.structure("rt_mutex_waiter")
    waitedFor = try slow.field("lock")
    waitingTask = try slow.field("task")
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
    let parties = Dictionary(
      tasks.map { ($0.address, KernelLock.Party(tid: $0.tid, comm: $0.comm)) }, uniquingKeysWith: { first, _ in first })
    // What runs waits for nothing, and its stack changes while it is read.
    let sleeping = tasks.filter { $0.state != .running }
    let reads = space.read(task, at: sleeping.map(\.address))
    var stacks = ReadBatch<VirtualAddress>()
    var owners: [(task: VirtualAddress, start: VirtualAddress)] = []
    var ranges: [VirtualAddress: Range<UInt64>] = [:]
    var slow: [VirtualAddress] = []
    for (index, item) in sleeping.enumerated() {
      do throws(MemoryFault) {
        let low = try reads.load(index, stack)
        let pointer = try reads.load(index, stackPointer)
        if let waiter = try blockedOn.isPresent ? reads.pointer(index, blockedOn) : nil, waiter.rawValue != 0 {
          slow.append(waiter)
        }
        // A task that has ended has given its stack back.
        guard low != 0 else { continue }
        let (high, overflow) = low.addingReportingOverflow(stackSize)
        if !overflow { ranges[item.address] = low..<high }
        guard !overflow, pointer >= low, pointer < high, pointer % 8 == 0 else {
          throw MemoryFault(.virtual(item.address), .inconsistent("a task whose stack pointer lies outside its stack"))
        }
        owners.append((item.address, VirtualAddress(pointer)))
        stacks.add(VirtualAddress(pointer), count: Int(high - pointer))
      } catch {
        table.faults.append(error)
      }
    }
    space.read(&stacks)
    var waiters: [VirtualAddress: Waiter] = [:]
    for (index, owner) in owners.enumerated() {
      do throws(MemoryFault) {
        for waiter in try candidates(try stacks.reader(index), owner.start, task: owner.task) {
          waiters[waiter.link] = waiter
        }
      } catch {
        table.faults.append(error)
      }
    }
    let confirmed = confirm(waiters, in: space)
    findLocks(of: confirmed, parties, ranges, in: space, &table)
    findSlowLocks(slow, parties, in: space, &table)
    table.locks.sort { $0.address < $1.address }
    return table
  }

  /// The words of a stack that look like a waiter of its task.
  private func candidates(
    _ reader: borrowing ByteReader, _ start: VirtualAddress, task: VirtualAddress
  ) throws(MemoryFault) -> [Waiter] {
    var found: [Waiter] = []
    for offset in stride(from: waiterTask, to: reader.count - 7, by: 8)
    where try reader.u64(offset) == task.rawValue {
      let (next, previous) = (try reader.pointer(offset - waiterTask), try reader.pointer(offset - waiterTask + 8))
      let link = start + (offset - waiterTask)
      guard [next, previous].allSatisfy({ $0.rawValue >> 63 == 1 && $0.rawValue % 8 == 0 }) else { continue }
      // Entries of other lists are followed by their task, too; no function near them waits for a lock.
      guard let kind = try kind(reader, near: (offset - waiterTask) / 8) else { continue }
      var waiter = Waiter(link: link, next: next, previous: previous, kind: kind)
      if shapes[kind]?.namesFirst ?? false {
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
    var batch = ReadBatch<VirtualAddress>()
    for waiter in all {
      // prev is the second word of a list_head, next the first.
      batch.add(waiter.next + 8, count: 8)
      batch.add(waiter.previous, count: 8)
    }
    space.read(&batch)
    var confirmed: [VirtualAddress: Waiter] = [:]
    for (index, waiter) in all.enumerated() {
      if let back = try? batch.reader(index * 2).pointer(0), let forth = try? batch.reader(index * 2 + 1).pointer(0),
        back == waiter.link, forth == waiter.link
      {
        confirmed[waiter.link] = waiter
      }
    }
    return confirmed
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
      var tasks = ReadBatch<VirtualAddress>()
      for member in members { tasks.add(member + waiterTask, count: 8) }
      space.read(&tasks)
      let heads = members.indices.filter { index in
        if waiters[members[index]] != nil { return false }
        guard let task = try? tasks.reader(index).pointer(0), let stack = stacks[task] else { return true }
        return !stack.contains(members[index].rawValue)
      }
      let kind = waiter.kind
      guard let shape = shapes[kind] else { continue }
      // The one member that is no waiter lies in the lock, or none is there.
      guard ring.faults.isEmpty, heads.count == (shape.namesFirst ? 0 : 1) else {
        table.faults += ring.faults
        table.faults.append(
          MemoryFault(.virtual(waiter.link), .inconsistent("a list of waiters that closes in no lock, or in several")))
        continue
      }
      do throws(MemoryFault) {
        var found = heads.first.map { members[$0] - shape.waitList }
        if shape.namesFirst { found = try lock(kind, ofWaiter: waiter, among: Set(members), shape, in: space) }
        guard let address = found else { continue }
        // What only looks like a waiter, such as an entry of a wait queue, leads to no lock that says that somebody waits.
        guard try saysThatSomebodyWaits(kind, at: address, shape, in: space) else { continue }
        table.locks.append(try lock(kind, at: address, shape, parties, in: space))
      } catch {
        table.faults.append(error)
      }
    }
  }

  /// The lock that names one of `members` as its first waiter, to which a word of the waiter's stack leads; nil where what
  /// looks like a waiter is none. Cost: two round trips.
  private func lock(
    _ kind: KernelLock.Kind, ofWaiter waiter: Waiter, among members: Set<VirtualAddress>, _ shape: Shape,
    in space: AddressSpace
  ) throws(MemoryFault) -> VirtualAddress? {
    var batch = ReadBatch<VirtualAddress>()
    for word in waiter.words { batch.add(word + shape.waitList, count: 8) }
    space.read(&batch)
    for (index, word) in waiter.words.enumerated() {
      // Most words lead elsewhere, or nowhere.
      guard let first = try? batch.reader(index).pointer(0), members.contains(first) else { continue }
      if try saysThatSomebodyWaits(kind, at: word, shape, in: space) { return word }
    }
    return nil
  }

  /// The waiters in the lock's list, in its order.
  private func waiters(
    of address: VirtualAddress, _ shape: Shape, in space: AddressSpace
  ) throws(MemoryFault) -> [VirtualAddress] {
    let walker = ListWalker(space: space, form: .circular, limit: Self.mostWaiters)
    guard shape.namesFirst else {
      let list = walker.members(ofHeads: [address + shape.waitList])
      if let fault = list.faults.first { throw fault }
      return list.lists[0]
    }
    let pointer = try space.read(address + shape.waitList, count: 8)
    let first = try ByteReader(pointer.span.bytes).pointer(0)
    if first.rawValue == 0 { return [] }
    let list = walker.members(ofHeads: [first])
    if let fault = list.faults.first { throw fault }
    return [first] + list.lists[0]
  }

  /// Whether the lock's own state fits a list of waiters that is not empty.
  private func saysThatSomebodyWaits(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ shape: Shape, in space: AddressSpace
  ) throws(MemoryFault) -> Bool {
    let reads = space.read(shape.selection, at: [address])
    switch kind {
    case .mutex:
      guard let owner = shape.owner else { return false }
      // MUTEX_FLAG_WAITERS.
      return try reads.load(0, owner) & 1 == 1
    case .rwsem:
      guard let count = shape.count else { return false }
      // RWSEM_FLAG_WAITERS.
      return try reads.load(0, count) & 2 == 2
    case .semaphore:
      guard let count = shape.count else { return false }
      return try reads.load(0, count) == 0
    case .rtmutex: return false
    }
  }

  /// The lock at `address`, with who waits for it. Cost: a round trip for each two waiters or so.
  private func lock(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ shape: Shape, _ parties: [VirtualAddress: KernelLock.Party],
    in space: AddressSpace
  ) throws(MemoryFault) -> KernelLock {
    let reads = space.read(shape.selection, at: [address])
    // The lowest bits of an owner are flags (MUTEX_FLAGS, RWSEM_OWNER_FLAGS_MASK; both three at most).
    let owner = try shape.owner.map { owner throws(MemoryFault) in
      VirtualAddress(try reads.load(0, owner) & ~7)
    }
    let links = try waiters(of: address, shape, in: space)
    var batch = ReadBatch<VirtualAddress>()
    for link in links {
      batch.add(link + waiterTask, count: 8)
      batch.add(link + waiterType.offset, count: waiterType.size)
    }
    space.read(&batch)
    var waiters: [KernelLock.Party] = []
    for index in links.indices {
      let task = try batch.reader(index * 2).pointer(0)
      var party = try Self.party(task, parties)
      if kind == .rwsem {
        party.wantsToRead =
          try waiterType.load(batch.reader(index * 2 + 1), base: -waiterType.offset)
          == UInt64(
            bitPattern: wantsToRead)
      }
      waiters.append(party)
    }
    // The count of readers lies above eight bits of flags (RWSEM_READER_SHIFT); the highest bit is a guard.
    let readers: Int? =
      try kind == .rwsem
      ? shape.count.map { count throws(MemoryFault) in
        Int(clamping: (try reads.load(0, count) & (1 << 63 - 1)) >> 8)
      } : nil
    return KernelLock(
      kind: kind, address: address, symbol: name(of: address),
      owner: owner.flatMap { parties[$0] }, readers: readers, waiters: waiters)
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
    guard let shape = shapes[.rtmutex], let owner = shape.owner else { return }
    var batch = ReadBatch<VirtualAddress>()
    for waiter in waiters {
      batch.add(waiter + waitedFor.offset, count: 8)
      batch.add(waiter + waitingTask.offset, count: 8)
    }
    space.read(&batch)
    var found: [VirtualAddress: [KernelLock.Party]] = [:]
    for index in waiters.indices {
      do throws(MemoryFault) {
        let task = try batch.reader(index * 2 + 1).pointer(0)
        found[try batch.reader(index * 2).pointer(0), default: []].append(try Self.party(task, parties))
      } catch {
        table.faults.append(error)
      }
    }
    let locks = Array(found.keys)
    let reads = space.read(shape.selection, at: locks)
    for (index, address) in locks.enumerated() {
      do throws(MemoryFault) {
        // The lowest bit says that somebody waits (RT_MUTEX_HAS_WAITERS).
        let holder = VirtualAddress(try reads.load(index, owner) & ~1)
        table.locks.append(
          KernelLock(
            kind: .rtmutex, address: address, symbol: name(of: address), owner: parties[holder], readers: nil,
            waiters: found[address] ?? []))
      } catch {
        table.faults.append(error)
      }
    }
  }

  /// The lock of `kind` at `address`, whether anybody waits for it or not.
  func lock(
    _ kind: KernelLock.Kind, at address: VirtualAddress, _ tasks: [KernelTask], in space: AddressSpace
  ) throws -> KernelLock {
    guard kind != .rtmutex, let shape = shapes[kind] else {
      throw KernelError(
        "the \(kind.rawValue) at \(address)", .inconsistent("this kernel has none of the form known here"))
    }
    let parties = Dictionary(
      tasks.map { ($0.address, KernelLock.Party(tid: $0.tid, comm: $0.comm)) }, uniquingKeysWith: { first, _ in first })
    return try lock(kind, at: address, shape, parties, in: space)
  }
}

extension Kernel {
  /// The locks that tasks wait for, and the locks on files.
  ///
  /// Cost: that of ``tasks(_:)``, the stacks of all tasks that sleep as far as they are in use, and some round trips for each
  /// lock found.
  public func locks() throws(KernelError) -> LockTable {
    let reader = try reader(LockReader.self)
    let files = try self.reader(FileLockReader.self)
    let cpus = try cpus()
    return try settled(\.faults) { () throws(KernelError) in
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
