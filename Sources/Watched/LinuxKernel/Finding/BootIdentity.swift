import KernelInfo
package import Memory
import Paging

/// What tells one boot of a kernel from every other, at the places where the kernel keeps it: a cheap way to see whether the
/// kernel that was proven is still there.
///
/// The banner and the names of the build, where image and direct map lie, the note's own bytes, the random value that guards
/// the first task's stack, and the count of ticks, which a new boot starts anew. A host that reboots changes one of them, whatever
/// kernel comes next; nothing that a running kernel does.
package struct BootIdentity: Sendable {
  /// Bytes that stay as they are as long as the kernel runs.
  private let constants: [(place: PhysicalAddress, bytes: [UInt8])]
  /// What each of them is.
  private let names: [String]
  /// The one of them that no kernel shares with another, and that none that lives can do without; nil where it is not known.
  private let canary: Int?
  /// How many of them a boot is told from others by; the note's follow, which may be wiped.
  private let marks: Int
  /// A count that only grows, and what it was when it was looked at last.
  private var ticks: (place: PhysicalAddress, count: UInt64)?

  /// Whether the count of ticks had grown when it was looked at last; nil where it is not known.
  ///
  /// A kernel that is gone may lie in memory whole, where the next one did not happen to overwrite it; but it ticks no more.
  package private(set) var hasTicked: Bool?
  /// What was not as it had been when it was looked at last, though the kernel was still there: somebody has altered it.
  package private(set) var altered: [String] = []

  /// As much of a note as is compared: two pages.
  private static let longestNote = 8192

  /// What the memory has of it now.
  ///
  /// Cost: one batch.
  package init(of kernel: Kernel) {
    self.init(kernel.found, kernel.addressSpace)
  }

  package init(of kernel: ProvenKernel) {
    self.init(kernel.found, kernel.addressSpace)
  }

  private init(_ found: FoundKernel, _ space: AddressSpace) {
    var places: [(PhysicalAddress, count: Int)] = []
    var labels: [String] = []
    func add(_ address: VirtualAddress?, _ name: String, count: Int) {
      guard let address, let place = try? space.translate(address) else { return }
      places.append((place, count))
      labels.append(name)
    }
    add(found.symbols.address(of: "linux_banner"), "linux_banner", count: 128)
    for name in ["phys_base", "page_offset_base", "vmcoreinfo_note"] {
      add(found.symbols.address(of: name), name, count: 8)
    }
    func add(_ symbol: String, _ structure: String, _ path: String) {
      guard let address = found.symbols.address(of: symbol), let layout = try? found.types.structure(structure),
        layout.hasField(path), let field = try? layout.field(path), (1...128).contains(field.size)
      else { return }
      add(address + field.offset, "\(symbol).\(path)", count: field.size)
    }
    add("init_uts_ns", "uts_namespace", "name.release")
    add("init_uts_ns", "uts_namespace", "name.version")
    // Source: arch/x86/include/asm/stackprotector.h, boot_init_stack_canary.
    add("init_task", "task_struct", "stack_canary")
    let marked = places.count
    // Its text: a kernel that crashes adds a line behind it, and says so in the header.
    if let note = found.coreInfo {
      places.append((found.coreInfoAddress + CoreInfoNote.headerSize, min(note.text.utf8.count, Self.longestNote)))
      labels.append("the note for crash tools")
    }
    let ticks = found.symbols.address(of: "jiffies_64").flatMap { try? space.translate($0) }
    if let ticks { places.append((ticks, 8)) }

    var batch = ReadBatch<PhysicalAddress>()
    for (place, count) in places { batch.add(place, count: count) }
    space.memory.read(&batch)
    var constants: [(PhysicalAddress, [UInt8])] = []
    var marks = 0
    var names: [String] = []
    for (index, (place, _)) in places.enumerated() {
      guard let bytes = try? batch.reader(index).copy() else { continue }
      if ticks != nil, index == places.count - 1 {
        self.ticks = (place, (try? ByteReader(bytes.span.bytes).u64(0)) ?? 0)
      } else {
        constants.append((place, bytes))
        names.append(labels[index])
        if index < marked { marks += 1 }
      }
    }
    self.constants = constants
    self.marks = marks
    self.names = names
    // Zero where the kernel has none, or it is not made yet.
    canary = names.firstIndex(of: "init_task.stack_canary").flatMap { index in
      constants[index].1.contains { $0 != 0 } ? index : nil
    }
  }

  /// A digest by which the boot is known again, also where its note is wiped meanwhile.
  package var mark: MemoryDigest {
    MemoryDigest(
      of: constants.prefix(marks).flatMap { place, bytes in
        let digest = bytes.withUnsafeBytes { MemoryDigest($0) }
        return [place.rawValue, digest.low, digest.high]
      })
  }

  /// Whether the memory still has it.
  ///
  /// Who wants not to be seen alters the banner, the names of the build or the note. That is no reboot where the random value of
  /// the first task's stack is what it was, without which its CPU would panic, and the ticks have not gone back; ``altered`` then
  /// says what it was.
  ///
  /// Cost: one batch of some hundred bytes.
  package mutating func holds(in memory: any PhysicalMemory) -> Bool {
    var batch = ReadBatch<PhysicalAddress>()
    for (place, bytes) in constants { batch.add(place, count: bytes.count) }
    if let ticks { batch.add(ticks.place, count: 8) }
    memory.read(&batch)
    let others = constants.indices.filter { (try? batch.reader($0).copy()) != constants[$0].bytes }
    altered = []
    guard others.isEmpty || (canary.map { !others.contains($0) } ?? false && ticks != nil) else { return false }
    altered = others.map { names[$0] }
    guard let ticks else { return true }
    guard let count = try? batch.reader(constants.count).u64(0), count >= ticks.count else {
      altered = []
      return false
    }
    hasTicked = count > ticks.count
    self.ticks = (ticks.place, count)
    return true
  }
}
