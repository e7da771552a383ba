import Binding
import KernelInfo
public import KernelViews
import LinuxKernel
import Memory

/// The kernel's data points to code that belongs to nothing.
public struct ForeignOperations: Detector {
  public static let name = "foreign-operations"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A table of operations, a notifier, a handler of packets or a timer of the kernel points to code that belongs to nothing."
  public static let rule = """
    Where executable memory has no owner, all words of the kernel's data are looked through for addresses in it, and what the \
    notifiers of all chains, the handlers of packets and the timers call.
    """
  public static let looksLike = "A module that is being unloaded takes its own out first; both looks have to agree."
  public static let remedy = """
    Treat the host as taken over. What is named is called by the kernel in place of its own: grassctl read ADDRESS; keep the memory.
    """
  public static let techniques = ["T1014"]

  fileprivate struct Reader: KernelReader {
    static let subject = "the kernel's operations"

    struct Notifier: KernelShape {
      static let type = "notifier_block"
      let function = Field<VirtualAddress>("notifier_call")
      let next = Field<VirtualAddress>("next")
    }

    struct PacketType: KernelShape {
      static let type = "packet_type"
      let link = Place("list")
      let function = Field<VirtualAddress?>("func")
    }

    /// Sections of data, by the symbols around them.
    let sections: [Range<UInt64>]
    let notifier: Bound<Notifier>
    let packetType: Bound<PacketType>
    /// Heads of lists of notifiers: what their symbols hold, in bytes.
    let chains: [(name: String, address: VirtualAddress, count: Int)]
    let packetLists: [(name: String, address: VirtualAddress)]

    private static let mostSection: UInt64 = 1 << 27

    init(kernel: Kernel) throws {
      let symbols = kernel.symbols
      sections = [("__start_rodata", "__end_rodata"), ("_sdata", "_edata"), ("__bss_start", "__bss_stop")]
        .compactMap { first, last in
          guard let start = symbols.address(of: first)?.rawValue, let end = symbols.address(of: last)?.rawValue,
            start < end, end - start < Self.mostSection
          else { return nil }
          return start & ~7..<end
        }
      (notifier, packetType) = try kernel.types.bind()
      var chains: [(name: String, address: VirtualAddress, count: Int)] = []
      let endings = ["_notifier_list", "_notifier_chain", "_notify_list", "_notifier", "_chain", "_chain_head"]
        .map { Array($0.utf8) }
      for position in symbols.addresses.indices {
        let (start, end) = (Int(symbols.starts[position]), Int(symbols.starts[position + 1]))
        // The letter in front says where it lies: in data or bss.
        guard end - start > 7, [0x42, 0x44, 0x62, 0x64].contains(symbols.text[start]) else { continue }
        // Only few names end so, and no other name is compared further.
        guard [0x74, 0x6e, 0x72, 0x64].contains(symbols.text[end - 1]) else { continue }
        let name = symbols.text[(start + 1)..<end]
        guard endings.contains(where: { name.count > $0.count && name.suffix($0.count).elementsEqual($0) }) else {
          continue
        }
        let address = VirtualAddress(symbols.addresses[position])
        let size = min(Int(clamping: symbols.size(ofSymbolAt: address) ?? 0), 512) & ~7
        if size > 0 { chains.append((String(decoding: name, as: UTF8.self), address, size)) }
      }
      self.chains = chains
      var lists: [(name: String, address: VirtualAddress)] = []
      for (name, count) in [("ptype_base", 16), ("ptype_all", 1)] {
        guard let start = symbols.address(of: name) else { continue }
        for index in 0..<count { lists.append((name, start + index * 16)) }
      }
      packetLists = lists
    }
  }

  /// More words that are odd than are told one by one.
  private static let most = 64

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    // Without such code nothing can point to it.
    let strays = try look.ownerlessCode()
    guard !strays.isEmpty else { return Sightings() }
    // A word that was left behind may still lead to the start of a module, whose memory is about to be given back.
    let isFreeing = try look.isFreeingModules()
    let reader = try kernel.reader(Reader.self)
    var faults: [MemoryFault] = []
    var sightings: [Sighting] = []
    func add(_ what: String, _ holder: VirtualAddress, _ code: VirtualAddress) {
      let subject = Subject.table(what, entry: nil)
      guard sightings.count < most, !sightings.contains(where: { $0.subjects == [subject, .code(code)] }) else {
        return
      }
      sightings.append(
        Sighting(
          [subject, .code(code)], isFreeing ? .notice : .critical, isFreeing ? .hint : .strong,
          "\(what) points to code at \(code), which belongs to nothing",
          evidence: [
            .init(
              what, at: holder, seen: "\(code)", expected: "code of the kernel, of a module, or that the kernel made")
          ]))
    }
    for (index, section) in reader.sections.enumerated() {
      faults.keep { () throws(MemoryFault) in
        let bytes = try kernel.addressSpace.read(VirtualAddress(section.lowerBound), count: section.count)
        for offset in WordSearch.offsets(in: bytes, of: strays, most: most) {
          let holder = VirtualAddress(section.lowerBound) + offset
          let code = try ByteReader(bytes.span.bytes).pointer(offset)
          let symbol = kernel.symbols.symbol(containing: holder)
          let distance = symbol.map { holder.distance(from: $0.address) } ?? 0
          add(symbol.map { "\($0.name)+0x\(String(distance, radix: 16))" } ?? "section \(index)", holder, code)
        }
      }
    }
    func isStray(_ address: VirtualAddress) -> Bool { strays.contains { $0.contains(address.rawValue) } }
    for (name, address, code) in reader.notifiers(kernel) where isStray(code) {
      add("a notifier of \(name)", address, code)
    }
    let (lists, types) = kernel.addressSpace.lists(
      of: reader.packetType, through: \.link, heads: reader.packetLists.map(\.address), limit: 1 << 16, &faults)
    for type in types {
      faults.keep { () throws(MemoryFault) in
        guard let code = try type.function, isStray(code) else { return }
        add("a handler of packets in \(reader.packetLists[lists[type.index]].name)", type.address, code)
      }
    }
    let timers = try kernel.timers()
    for timer in timers.timers where isStray(timer.function.address) {
      add("a timer of CPU \(timer.cpu)", timer.address, timer.function.address)
    }
    faults += timers.faults
    return Sightings(sightings, faults: faults)
  }
}

extension ForeignOperations.Reader {
  /// What the notifiers of all chains call.
  ///
  /// A head has a lock before its first notifier, of which kind says its type, which symbols have not. So each word of it is
  /// followed; what is no notifier does no harm, since only code without an owner is told.
  ///
  /// Cost: a batch for each notifier of the longest chain, and one.
  func notifiers(_ kernel: Kernel) -> [(name: String, address: VirtualAddress, code: VirtualAddress)] {
    let space = kernel.addressSpace
    var batch = ReadBatch<VirtualAddress>()
    for chain in chains { batch.add(chain.address, count: chain.count) }
    space.read(&batch)
    func isPointer(_ word: UInt64) -> Bool { word >> 55 == 0x1ff && word & 7 == 0 }
    var found: [(name: String, address: VirtualAddress, code: VirtualAddress)] = []
    var seen: Set<VirtualAddress> = []
    // A notifier that is a variable leads to those behind it, too. Heads come first, so that these are named by them.
    for isNotifier in [false, true] {
      var open: [(name: String, address: VirtualAddress)] = []
      for (index, chain) in chains.enumerated() where chain.name.hasSuffix("_notifier") == isNotifier {
        for word in (try? batch.words(index)) ?? [] where isPointer(word) {
          open.append((chain.name, VirtualAddress(word)))
        }
      }
      for _ in 0..<256 where !open.isEmpty && found.count < 1 << 14 {
        var next: [(name: String, address: VirtualAddress)] = []
        for reading in space.read(notifier, at: open.map(\.address)) {
          guard seen.insert(reading.address).inserted, let code = try? reading.function,
            let following = try? reading.next
          else { continue }
          let name = open[reading.index].name
          found.append((name, reading.address, code))
          if isPointer(following.rawValue) { next.append((name, following)) }
        }
        open = next
      }
    }
    return found
  }
}
