import Binding
import KernelInfo
package import Memory
package import Paging

/// Finds the variables of a kernel that lists only functions (without CONFIG_KALLSYMS_ALL), by their form.
///
/// The image's end is where its page tables stop to map it in one piece. In it lie the bases of the direct map and of the memory
/// map beside each other, and the first task, which leads to namespaces and further. Whatever is taken has to hold together:
/// bases are those that the page tables know, rings close, and what a pointer names points back.
///
/// Source: arch/x86/kernel/head64.c, `page_offset_base`; init/init_task.c; kernel/module/main.c, `modules`; kernel/printk/printk.c.
package struct VariableSearch {
  /// The kernel with the bases of its direct map and memory map, where they are variables, and with its image's end.
  ///
  /// Whether the bases hold, the page tables have to prove.
  package let found: FoundKernel
  private let subject: String
  private let data: Data

  /// More than any image has behind its text.
  private static let longestData: UInt64 = 256 << 20
  /// How many places of one form are looked at closely.
  private static let mostPlaces = 4096
  /// KERNEL_IMAGE_SIZE is a gigabyte at most; the modules follow.
  private static let mapEnd: UInt64 = 0xffff_ffff_c000_0000
  private static let largePage: UInt64 = 2 << 20
  private static let smallPage: UInt64 = 4096

  /// Looks for the image's end and the bases in it.
  ///
  /// - Throws: ``KernelError`` where the page tables do not map the image. Cost: the image's data is read once.
  package init(memory: any PhysicalMemory, found: FoundKernel) throws(KernelError) {
    subject = "the variables of Linux \(found.release), which lists only functions"
    let walker = PageWalker(memory: memory, format: found.pageTableFormat)
    let end = try Self.imageEnd(found, walker, subject)
    data = try Self.data(of: found, upTo: end, memory, subject)
    self.found = found.adding(Self.bases(in: data, found, walker), imageEnd: end)
  }

  /// The kernel with those variables that were found.
  ///
  /// - Parameter space: the kernel's address space, proven.
  /// - Returns: the kernel, with their addresses among its symbols.
  /// - Throws: ``KernelError`` where the first task is not among them.
  package func complete(in space: AddressSpace) throws(KernelError) -> FoundKernel {
    var variables: [String: VirtualAddress] = [:]
    guard let task = try initTask(in: data, space) else {
      throw KernelError(subject, .inconsistent("its image holds no first task whose list of tasks closes"))
    }
    variables["init_task"] = task
    try addNamespaces(of: task, space, data, &variables)
    variables["super_blocks"] = superBlocks(of: task, space, data)
    variables["modules"] = modules(in: data, space)
    if found.symbols.address(of: "prb") == nil { variables["prb"] = log(in: data) }
    return found.adding(variables, imageEnd: found.imageRange.upperBound)
  }

  // MARK: The image

  /// The image's data: what lies behind its text, copied.
  private struct Data {
    let start: VirtualAddress
    let bytes: [UInt8]

    var range: Range<UInt64> { start.rawValue..<start.rawValue &+ UInt64(bytes.count) }

    /// Calls `body` with each aligned word, and where it lies, until it returns false.
    func forEachWord(_ body: (_ value: UInt64, _ place: VirtualAddress) -> Bool) {
      let reader = ByteReader(bytes.span.bytes)
      for offset in stride(from: 0, to: bytes.count - 7, by: 8) {
        guard let value = try? reader.u64(offset), body(value, start + offset) else { return }
      }
    }

    /// Structs anywhere in the data.
    func structs<Shape>(of bound: Bound<Shape>) throws(MemoryFault) -> StructArray<Shape> {
      var batch = ReadBatch<VirtualAddress>()
      batch.add(start, count: bytes.count)
      batch.fill { (_, buffer) throws(MemoryFault) in buffer.copyBytes(from: bytes) }
      return try StructArray(bound, 0, of: batch)
    }

    func word(_ address: VirtualAddress) -> UInt64? {
      guard range.contains(address.rawValue) else { return nil }
      return try? ByteReader(bytes.span.bytes).u64(Int(address.distance(from: start)))
    }
  }

  /// The image ends with the last page that its mapping has where it belongs.
  ///
  /// What was given back after the boot leaves holes.
  private static func imageEnd(
    _ found: FoundKernel, _ walker: PageWalker, _ subject: String
  ) throws(KernelError) -> VirtualAddress {
    let start = found.imageRange.lowerBound
    guard let physical = found.physicalAddress(ofImage: start) else {
      throw KernelError(subject, .inconsistent("its image starts outside its mapping"))
    }
    let steps = (0..<512).map { start + Int(UInt64($0) * Self.largePage) }.filter {
      $0 >= start && $0.rawValue <= Self.mapEnd - Self.largePage
    }
    func isOwn(_ address: VirtualAddress, _ mapping: PageWalker.Mapping) -> Bool {
      mapping.physical.rawValue == physical.rawValue &+ address.distance(from: start)
    }
    var last = start
    var small: [VirtualAddress] = []
    for (address, walk) in zip(steps, walker.translate(steps.map { ($0, found.rootPageTable) })) {
      switch walk {
      case .success(let mapping) where mapping.remaining > Int(Self.smallPage):
        if isOwn(address, mapping) { last = address + mapping.remaining }
      case .success: small.append(address)
      case .failure(let fault):
        if case .notPresent(level: 1, _) = fault.reason { small.append(address) }
      }
    }
    let pages = small.flatMap { step in (0..<512).map { step + $0 * Int(Self.smallPage) } }
    for (page, walk) in zip(pages, walker.translate(pages.map { ($0, found.rootPageTable) })) {
      if let mapping = try? walk.get(), isOwn(page, mapping) { last = max(last, page + Int(Self.smallPage)) }
    }
    guard last > start else {
      throw KernelError(subject, .inconsistent("its page tables do not map its image"))
    }
    return last
  }

  private static func data(
    of found: FoundKernel, upTo end: VirtualAddress, _ memory: any PhysicalMemory, _ subject: String
  ) throws(KernelError) -> Data {
    let text = found.symbols.address(of: "_etext") ?? found.imageRange.lowerBound
    let start = VirtualAddress(text.rawValue & ~(Self.smallPage - 1))
    guard start < end, end.distance(from: start) <= Self.longestData,
      let physical = found.adding([:], imageEnd: end).physicalAddress(ofImage: start)
    else { throw KernelError(subject, .inconsistent("its image ends at \(end), and its text at \(text)")) }
    var batch = ReadBatch<PhysicalAddress>()
    // In pieces, so that one that is missing loses no other: its bytes are zero.
    let piece: UInt64 = 64 << 10
    for offset in stride(from: 0, to: end.distance(from: start), by: UInt64.Stride(piece)) {
      batch.add(physical + Int(offset), count: Int(min(piece, end.distance(from: start) - offset)))
    }
    memory.read(&batch)
    return Data(start: start, bytes: batch.bytes)
  }

  // MARK: Variables

  /// Three words beside each other: where direct map, vmalloc area and memory map start.
  ///
  /// None where these are constants.
  private static func bases(
    in data: Data, _ found: FoundKernel, _ walker: PageWalker
  ) -> [String: VirtualAddress] {
    var window: [(value: UInt64, place: VirtualAddress)] = []
    var candidates: [[(value: UInt64, place: VirtualAddress)]] = []
    data.forEachWord { value, place in
      // Kernel addresses below the fixed areas, moved by whole gigabytes (arch/x86/mm/kaslr.c).
      guard value & (1 << 30 - 1) == 0, value >= 0xff00_0000_0000_0000, value < 0xffff_fe00_0000_0000 else {
        window = []
        return true
      }
      window.append((value, place))
      if window.count > 3 { window.removeFirst() }
      if window.count == 3 {
        let sorted = window.sorted { $0.value < $1.value }
        if sorted[0].value < sorted[1].value, sorted[1].value < sorted[2].value { candidates.append(sorted) }
      }
      return candidates.count < Self.mostPlaces
    }
    let image = found.physicalAddress(ofImage: found.imageRange.lowerBound)?.rawValue ?? 0
    let page = UInt64((try? found.types.structure("page").size) ?? 64)
    // The direct map has the image and the page tables at their places, and the memory map a description of the image.
    let walks = walker.translate(
      candidates.flatMap { words in
        [
          words[0].value &+ image, words[0].value &+ found.rootPageTable.rawValue,
          words[2].value &+ (image >> 12) &* page,
        ].map { (VirtualAddress($0), found.rootPageTable) }
      })
    for (index, words) in candidates.enumerated() {
      guard (try? walks[index * 3].get())?.physical.rawValue == image,
        (try? walks[index * 3 + 1].get())?.physical == found.rootPageTable, (try? walks[index * 3 + 2].get()) != nil
      else { continue }
      return ["page_offset_base": words[0].place, "vmalloc_base": words[1].place, "vmemmap_base": words[2].place]
    }
    return [:]
  }

  /// The first task: its name, no process id, no memory of its own, its own leader and parent, in a list that closes.
  private func initTask(in data: Data, _ space: AddressSpace) throws(KernelError) -> VirtualAddress? {
    let first = try KernelError.reading(subject) { try Bound<FirstTask>(found.types) }
    // With one CPU there is no number.
    for name in ["swapper/0\0", "swapper\0"] {
      let literal = LiteralSearch(Array(name.utf8))
      var offset = 0
      for _ in 0..<Self.mostPlaces {
        guard let place = literal.first(in: data.bytes, from: offset, before: data.bytes.count) else { break }
        offset = place + 1
        let address = data.start + (place - first.name.offset)
        guard address.rawValue % 16 == 0, data.range.contains(address.rawValue) else { continue }
        // A list that changes while it is read does not fit for a moment.
        for _ in 0..<3 where (try? Self.isFirst(address, first, in: space)) == true { return address }
      }
    }
    return nil
  }

  /// What the first task is told by.
  private struct FirstTask: KernelShape {
    static let type = "task_struct"
    let name = Place("comm")
    let link = Place("tasks")
    let pid = Field<UInt64>("pid")
    let tgid = Field<UInt64>("tgid")
    let mm = Field<UInt64>("mm")
    let parent = Field<VirtualAddress>("real_parent")
    let leader = Field<VirtualAddress>("group_leader")
    let next = Field<VirtualAddress>("tasks.next")
    let previous = Field<VirtualAddress>("tasks.prev")
  }

  private static func isFirst(
    _ address: VirtualAddress, _ bound: Bound<FirstTask>, in space: AddressSpace
  ) throws(MemoryFault) -> Bool {
    let task = space.read(bound, at: [address])[0]
    guard try task.pid == 0, try task.tgid == 0, try task.mm == 0, try task.parent == address,
      try task.leader == address
    else { return false }
    // Before the whole list is walked.
    var ends = ReadBatch<VirtualAddress>()
    ends.add(try task.next + 8, count: 8)
    ends.add(try task.previous, count: 8)
    space.read(&ends)
    let head = task.address(of: \.link)
    guard try ends.reader(0).pointer(0) == head, try ends.reader(1).pointer(0) == head else { return false }

    let walker = ListWalker(space: space, form: .circular, limit: space.mostObjects(ofSize: bound.size))
    let list = walker.members(ofHeads: [head])
    guard list.faults.isEmpty, let members = list.lists.first, !members.isEmpty else { return false }
    var batch = ReadBatch<VirtualAddress>()
    for member in members { batch.add(member + 8, count: 8) }
    space.read(&batch)
    for (index, previous) in ([head] + members.dropLast()).enumerated() {
      if try batch.reader(index).pointer(0) != previous { return false }
    }
    return true
  }

  /// The pointer that the field of the struct at `address` holds.
  private func follow(
    _ address: VirtualAddress, _ structure: String, _ path: String, _ space: AddressSpace
  ) throws -> VirtualAddress {
    try space.pointer(at: address + found.types.structure(structure).field(path).offset)
  }

  /// The initial namespaces, from the first task's own.
  private func addNamespaces(
    of task: VirtualAddress, _ space: AddressSpace, _ data: Data, _ variables: inout [String: VirtualAddress]
  ) throws(KernelError) {
    func follow(_ address: VirtualAddress, _ structure: String, _ path: String) throws -> VirtualAddress {
      try self.follow(address, structure, path, space)
    }
    let (pids, names, network) = try KernelError.reading(subject) {
      let pid = try follow(task, "task_struct", "thread_pid")
      let level = try follow(pid + (try found.types.structure("pid").field("numbers").offset), "upid", "ns")
      let proxy = try follow(task, "task_struct", "nsproxy")
      guard try follow(proxy, "nsproxy", "pid_ns_for_children") == level, data.range.contains(level.rawValue) else {
        throw KernelError(subject, .inconsistent("its first task is in no process namespace of the image"))
      }
      return (level, try follow(proxy, "nsproxy", "uts_ns"), try? follow(proxy, "nsproxy", "net_ns"))
    }
    if let known = found.symbols.address(of: "init_uts_ns"), known != names {
      throw KernelError(subject, .inconsistent("its first task is in another namespace of names than its note says"))
    }
    variables["init_pid_ns"] = pids
    variables["init_uts_ns"] = names
    // The list starts with the initial one, so that its head lies before it.
    if let network, data.range.contains(network.rawValue),
      let link = try? found.types.structure("net").field("list").offset,
      let head = data.word(network + link + 8), data.word(VirtualAddress(head)) == (network + link).rawValue
    {
      variables["init_net"] = network
      variables["net_namespace_list"] = VirtualAddress(head)
    }
  }

  /// The list of mounted file systems' superblocks, of which only the head lies in the image.
  private func superBlocks(of task: VirtualAddress, _ space: AddressSpace, _ data: Data) -> VirtualAddress? {
    guard let files = try? follow(task, "task_struct", "fs", space),
      let mount = try? follow(files, "fs_struct", "root.mnt", space),
      let superblock = try? follow(mount, "vfsmount", "mnt_sb", space),
      let link = try? found.types.structure("super_block").field("s_list").offset
    else { return nil }
    let list = ListWalker(space: space, form: .circular, limit: 1 << 16).members(ofHeads: [superblock + link])
    let heads = list.lists[0].filter { data.range.contains($0.rawValue) }
    return list.faults.isEmpty && heads.count == 1 ? heads[0] : nil
  }

  /// The list of modules: a head in the image, and members that are modules, each of which lies in its own memory.
  ///
  /// Nil where no module is loaded, too: an empty list says nothing of what it is a list of.
  private func modules(in data: Data, _ space: AddressSpace) -> VirtualAddress? {
    // The modules lie behind the image, in the last 2 GiB (Documentation/arch/x86/x86_64/mm.rst).
    let area = data.range.upperBound..<max(data.range.upperBound, 0xffff_ffff_ff00_0000)
    var heads: [(head: VirtualAddress, next: VirtualAddress, last: VirtualAddress)] = []
    var before: (value: UInt64, place: VirtualAddress) = (0, data.start)
    data.forEachWord { value, place in
      if area.contains(before.value), area.contains(value), before.value & 7 == 0, value & 7 == 0 {
        heads.append((before.place, VirtualAddress(before.value), VirtualAddress(value)))
      }
      before = (value, place)
      return heads.count < Self.mostPlaces
    }
    var batch = ReadBatch<VirtualAddress>()
    for head in heads {
      batch.add(head.next + 8, count: 8)
      batch.add(head.last, count: 8)
    }
    space.read(&batch)
    for (index, head) in heads.enumerated() {
      guard (try? batch.reader(index * 2).pointer(0)) == head.head,
        (try? batch.reader(index * 2 + 1).pointer(0)) == head.head
      else { continue }
      if isModuleList(head.head, space) { return head.head }
    }
    return nil
  }

  private func isModuleList(_ head: VirtualAddress, _ space: AddressSpace) -> Bool {
    guard let fields = try? ModuleFields(types: found.types) else { return false }
    let (modules, faults) = fields.modules(ofHead: head, in: space)
    return faults.isEmpty && !modules.isEmpty
      && modules.allSatisfy { module in
        // A module lies in its own memory, and is named as its file is.
        module.parts.contains { $0.contains(module.address.rawValue) }
          && (1...64).contains(module.name.count) && module.name.allSatisfy { (0x21...0x7e).contains($0) }
      }
  }

  /// The pointer to the log's ring buffer, and a buffer of plausible sizes behind it.
  private func log(in data: Data) -> VirtualAddress? {
    // What cannot be a ring is passed over, and so is one that the data's end cuts.
    guard let ring = try? Bound<PrintkRing>(found.types), let rings = try? data.structs(of: ring) else { return nil }
    var place: VirtualAddress?
    data.forEachWord { value, address in
      if data.range.contains(value), value & 7 == 0, (try? Self.isRing(rings[at: VirtualAddress(value)])) == true {
        place = address
      }
      return place == nil
    }
    return place
  }

  private static func isRing(_ ring: StructArray<PrintkRing>.Element) throws(MemoryFault) -> Bool {
    let (count, length) = (try ring.countBits, try ring.sizeBits)
    guard (5...30).contains(count), (10...31).contains(length), try ring.headID &- ring.tailID < 1 << count else {
      return false
    }
    let (first, second, third) = (try ring.descriptors, try ring.infos, try ring.data)
    return [first, second, third].allSatisfy { $0.rawValue >> 63 == 1 && $0.rawValue & 7 == 0 } && first != second
      && second != third
  }
}
