import Binding
public import KernelInfo
public import Memory
public import Paging
import Synchronization

/// A Linux kernel in the memory of a host: what every view starts from.
///
/// Its address space, symbols and types are fixed when it is opened; what they lead to is read anew by each view.
/// Views of a live host see memory that changes under them; each copies what it needs and says where it had to give up.
public final class Kernel: Sendable {
  public let memory: any PhysicalMemory
  public let found: FoundKernel
  /// The kernel's own address space, with its image and the direct map as linear ranges.
  public let addressSpace: AddressSpace

  /// Readers of further views, by their types.
  let readers = Mutex<[ObjectIdentifier: any KernelReader]>([:])

  public var release: String { found.release }
  public var symbols: SymbolTable { found.symbols }
  public var types: TypeTable { found.types }

  /// Finds the kernel in `memory`, with nothing given but the bytes.
  ///
  /// - Parameter hint: where its VMCOREINFO may lie; believed only if it holds.
  /// - Throws: ``KernelError`` with what was tried. Cost: one pass over the memory until it is found; none with a hint.
  public convenience init(memory: any PhysicalMemory, hint: PhysicalAddress? = nil) throws(KernelError) {
    var refusals: [String] = []
    var found: FoundKernel
    var complete: FoundKernel?
    do throws(KernelInfoError) {
      found = try KernelFinder(memory: memory).find(hint: hint) { candidate in
        do {
          let kernel =
            candidate.listsVariables ? candidate : try VariableSearch(memory: memory, found: candidate).complete()
          _ = try Kernel.makeAddressSpace(memory: memory, found: kernel)
          complete = kernel
          return true
        } catch {
          refusals.append("\(error)")
          return false
        }
      }
    } catch {
      throw KernelError("this memory", .notFound(refusals + ["\(error)"]))
    }
    if let complete { found = complete }
    try self.init(memory: memory, found: found)
  }

  private init(memory: any PhysicalMemory, found: FoundKernel) throws(KernelError) {
    self.memory = memory
    self.found = found
    addressSpace = try Kernel.makeAddressSpace(memory: memory, found: found)
  }

  /// Opens the kernel in the first of `candidates` that fits: several ways to lay out one raw image in physical memory.
  ///
  /// The kernel itself knows where its memory ends, so it decides which layout was right.
  public static func open(
    _ candidates: [any PhysicalMemory], hint: PhysicalAddress? = nil
  ) throws(KernelError) -> Kernel {
    var fallback: Kernel?
    var failure = KernelError("this memory", .notFound(["there is no memory to look at"]))
    for memory in candidates {
      do throws(KernelError) {
        let kernel = try Kernel(memory: memory, hint: hint)
        if candidates.count == 1 || kernel.endsWithItsMemory { return kernel }
        fallback = fallback ?? kernel
      } catch {
        failure = error
      }
    }
    guard let fallback else { throw failure }
    return fallback
  }

  /// Whether the last page that the kernel knows of lies in the last pages of the memory.
  private var endsWithItsMemory: Bool {
    guard let last = memory.segments.last, let symbol = symbols.address(of: "max_pfn"),
      let bytes = try? addressSpace.read(symbol, count: 8),
      let frames = try? ByteReader(bytes.span.bytes).u64(0)
    else { return false }
    let end = last.start.rawValue &+ last.count
    // Firmware keeps the last pages for itself.
    return frames <= end >> 12 && (end >> 12) - frames < 4096
  }

  /// The kernel's address space, proven: what linear translation says must be what the page tables say.
  package static func makeAddressSpace(
    memory: any PhysicalMemory, found: FoundKernel
  ) throws(KernelError) -> AddressSpace {
    let subject = "the page tables of Linux \(found.release)"
    let format = found.pageTableFormat
    let walker = PageWalker(memory: memory, format: format)
    guard let text = found.symbols.address(of: "_text"), let imagePhysical = found.physicalAddress(ofImage: text) else {
      throw KernelError(subject, .missingSymbol("_text"))
    }
    let imageEnd = found.imageRange.upperBound
    let image = AddressSpace.LinearRange(
      start: text, count: imageEnd.distance(from: text), physical: imagePhysical)

    // Where the direct map starts is a variable if KASLR moves it, else the architecture's constant
    // (Documentation/arch/x86/x86_64/mm.rst).
    var directMap = VirtualAddress(found.pagingLevels == 5 ? 0xff11_0000_0000_0000 : 0xffff_8880_0000_0000)
    if let symbol = found.symbols.address(of: "page_offset_base"),
      let physical = image.translate(symbol, count: 8)
    {
      let bytes = try KernelError.reading(subject) { try memory.read(physical, count: 8) }
      directMap = try KernelError.reading(subject) { try ByteReader(bytes.span.bytes).pointer(0) }
    }
    let end = memory.segments.map { $0.start.rawValue &+ $0.count }.max() ?? 0
    let direct = AddressSpace.LinearRange(start: directMap, count: end, physical: PhysicalAddress(0))

    let probes = [
      text, imageEnd - 1, directMap + Int(truncatingIfNeeded: imagePhysical.rawValue),
      directMap + Int(truncatingIfNeeded: found.rootPageTable.rawValue),
    ]
    let walks = walker.translate(probes.map { ($0, found.rootPageTable) })
    for (probe, walk) in zip(probes, walks) {
      // The image's end may have been given back to the allocator, so only its start must be mapped as computed.
      if probe == imageEnd - 1 { continue }
      let mapping = try KernelError.reading(subject) { try walk.get() }
      let expected = image.translate(probe, count: 1) ?? direct.translate(probe, count: 1)
      guard mapping.physical == expected else {
        throw KernelError(
          subject, .inconsistent("they map \(probe) to \(mapping.physical), not where its symbols say it lies"))
      }
    }
    return AddressSpace(
      memory: memory, format: format, root: found.rootPageTable, linearRanges: [direct, image])
  }

  /// The address of a symbol that `subject` cannot do without.
  package func symbol(_ name: String, for subject: String) throws(KernelError) -> VirtualAddress {
    guard let address = symbols.address(of: name) else { throw KernelError(subject, .missingSymbol(name)) }
    return address
  }
}

extension FoundKernel {
  /// The form of its page tables.
  package var pageTableFormat: PageTableFormat { pagingLevels == 5 ? .x86_64FiveLevel : .x86_64FourLevel }
}
