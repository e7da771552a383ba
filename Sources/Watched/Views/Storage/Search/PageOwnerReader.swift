import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Says what pages of physical memory are used for, by the kernel's description of each, its `struct page`.
///
/// All descriptions lie in one array, the memory map. A page of a compound says where its first one is described. What a
/// page is says a bit of its flags or, where it is no page of a process, its type: slabs from 6.10 on, and free pages.
/// Source: include/linux/page-flags.h, include/linux/mm_types.h, `page_mapping`.
struct PageOwnerReader: KernelReader {
  static let subject = "the memory map"
  typealias Field = FieldSelection.Field

  private let base: VirtualAddress?
  private let defaultBase: VirtualAddress
  private let pageSize: Int
  private let page: FieldSelection
  private let flags, mapping, compound, type, references: Field
  private let slabCache: FieldLayout
  private let cacheName: FieldLayout
  private let host: FieldLayout
  private let inode: FieldSelection
  private let number, superblock, entries: Field
  private let device: FieldLayout
  private let entryLink: Int
  private let entryName: FieldLayout
  private let slabType, freeType, slabFlag, reservedFlag: UInt64?
  private let image: AddressSpace.LinearRange?
  private let text: Range<UInt64>
  private let symbols: SymbolTable

  init(kernel: Kernel) throws {
    let types = kernel.types
    base = kernel.symbols.address(of: "vmemmap_base")
    // Without KASLR the memory map starts where Documentation/arch/x86/x86_64/mm.rst says.
    defaultBase = VirtualAddress(kernel.found.pagingLevels == 5 ? 0xffd4_0000_0000_0000 : 0xffff_ea00_0000_0000)
    let structure = try types.structure("page")
    pageSize = structure.size
    var fields = FieldSelection(structure)
    flags = try fields.want("flags")
    mapping = try fields.want("mapping")
    compound = try fields.want("compound_head", or: "compound_info")
    type = try fields.want("page_type")
    references = try fields.want("_refcount")
    page = fields
    slabCache = try types.structure(types.hasStructure("slab") ? "slab" : "page").field("slab_cache")
    cacheName = try types.structure("kmem_cache").field("name")
    host = try types.structure("address_space").field("host")
    fields = FieldSelection(try types.structure("inode"))
    number = try fields.want("i_ino")
    superblock = try fields.want("i_sb")
    entries = try fields.want("i_dentry")
    inode = fields
    device = try types.structure("super_block").field("s_id")
    let entry = try types.structure("dentry")
    // In a union without a name since 7.1.
    entryLink = try entry.field("d_u.d_alias", or: "d_alias").offset
    entryName = try entry.field("d_name.name")
    func value(_ name: String) -> UInt64? { types.enumerator(name).map { UInt64(bitPattern: $0) } }
    slabType = value("PGTY_slab")
    freeType = value("PGTY_buddy")
    slabFlag = slabType == nil ? value("PG_slab") : nil
    reservedFlag = value("PG_reserved")
    image = kernel.addressSpace.linearRanges.last
    let start = try kernel.symbol("_stext", for: Self.self).rawValue
    text = start..<max(start, try kernel.symbol("_etext", for: Self.self).rawValue)
    symbols = kernel.symbols
  }

  /// The owners of the pages at `places`. Cost: about eight batches.
  func owners(of places: [PhysicalAddress], in space: AddressSpace) -> [PageOwner] {
    var owners = [PageOwner](repeating: .unknown, count: places.count)
    var frames: [UInt64: [Int]] = [:]
    for index in places.indices { frames[places[index].rawValue >> 12, default: []].append(index) }
    let order = Array(frames.keys)
    var start = defaultBase
    if let base, let bytes = try? space.read(base, count: 8), let value = try? ByteReader(bytes.span.bytes).pointer(0) {
      start = value
    }
    // Frames lie below 2^52, so that this does not overflow.
    let described = order.map { start + Int($0) &* pageSize }
    let own = space.read(page, at: described)
    // The first page of a compound describes all of it.
    let heads = described.indices.map { index in
      (try? own.load(index, compound)).map { PageMap.head(of: described[index], compound: $0) } ?? described[index]
    }
    let reads = space.read(page, at: heads)
    var slabs: [(frame: Int, page: VirtualAddress)] = []
    var files: [(frame: Int, mapping: VirtualAddress)] = []
    var results = [PageOwner](repeating: .unknown, count: order.count)
    for index in order.indices {
      guard let flags = try? reads.load(index, flags), let mapping = try? reads.load(index, mapping),
        let type = try? reads.load(index, type), let references = try? reads.signed(index, references)
      else { continue }
      func has(_ flag: UInt64?) -> Bool { flag.map { $0 < 64 && flags >> $0 & 1 == 1 } ?? false }
      let kind = type & 0xffff_ffff
      // PG_buddy is 0x80 where types are bits that are cleared, above PAGE_TYPE_BASE.
      let isBuddy = freeType.map { kind >> 24 == $0 } ?? (kind & 0xf000_0080 == 0xf000_0000)
      if slabType.map({ kind >> 24 == $0 }) ?? has(slabFlag) {
        slabs.append((index, heads[index]))
      } else if has(reservedFlag) {
        results[index] = .reserved
      } else if isBuddy || references == 0 {
        results[index] = .free
      } else if mapping & 3 == 1 {
        results[index] = .anonymous
      } else if mapping & 3 == 0, mapping >> 63 == 1 {
        files.append((index, VirtualAddress(mapping)))
      } else {
        results[index] = .kernel
      }
    }
    nameSlabs(slabs, space, &results)
    nameFiles(files, space, &results)
    for (index, frame) in order.enumerated() {
      for place in frames[frame] ?? [] {
        // Parts of the kernel's image are freed once it has booted, and used like other memory: they are not reserved.
        let isImage = results[index] == .reserved || results[index] == .unknown
        owners[place] = (isImage ? ofImage(places[place]) : nil) ?? results[index]
      }
    }
    return owners
  }

  private func ofImage(_ place: PhysicalAddress) -> PageOwner? {
    guard let image else { return nil }
    let offset = place.distance(from: image.physical)
    guard offset < image.count else { return nil }
    let address = VirtualAddress(image.start.rawValue &+ offset)
    let symbol = symbols.symbol(containing: address)?.name
    return text.contains(address.rawValue) ? .kernelText(symbol: symbol) : .kernelData(symbol: symbol)
  }

  /// The pointers at `addresses`, null where they cannot be read.
  private func pointers(at addresses: [VirtualAddress], _ space: AddressSpace) -> [VirtualAddress] {
    var batch = ReadBatch<VirtualAddress>()
    for address in addresses { batch.add(address, count: 8) }
    space.read(&batch)
    return addresses.indices.map { (try? batch.reader($0).pointer(0)) ?? VirtualAddress(0) }
  }

  private func nameSlabs(
    _ slabs: [(frame: Int, page: VirtualAddress)], _ space: AddressSpace, _ results: inout [PageOwner]
  ) {
    let caches = pointers(at: slabs.map { $0.page + slabCache.offset }, space)
    let names = space.strings(at: pointers(at: caches.map { $0 + cacheName.offset }, space))
    for (index, slab) in slabs.enumerated() { results[slab.frame] = .slab(cache: (try? names[index].get()) ?? []) }
  }

  private func nameFiles(
    _ files: [(frame: Int, mapping: VirtualAddress)], _ space: AddressSpace, _ results: inout [PageOwner]
  ) {
    let inodes = space.read(inode, at: pointers(at: files.map { $0.mapping + host.offset }, space))
    let devices = space.strings(
      at: inodes.indices.map { index in
        (try? inodes.pointer(index, superblock)).map { $0 + device.offset } ?? VirtualAddress(0)
      }, limit: device.size)
    let links = inodes.indices.map { (try? inodes.pointer($0, entries)) ?? VirtualAddress(0) }
    let names = space.strings(
      at: pointers(
        at: links.map { $0.rawValue == 0 ? $0 : $0 - entryLink + entryName.offset }, space))
    for (index, file) in files.enumerated() {
      // What is mapped by no inode is memory of the kernel, such as that of a device.
      guard let number = try? inodes.load(index, number) else {
        results[file.frame] = .kernel
        continue
      }
      results[file.frame] = .file(
        device: (try? devices[index].get()) ?? [], inode: number, name: (try? names[index].get()) ?? [])
    }
  }
}
