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

  private struct Page: KernelShape {
    static let type = "page"
    let flags = Field<UInt64>("flags")
    let mapping = Field<UInt64>("mapping")
    let compound = Field<UInt64>("compound_info", before: "7.1", "compound_head")
    let type = Field<UInt32>("page_type")
    let references = Field<Int32>("_refcount")
  }

  private struct Slab: KernelShape {
    static let type = "slab"
    let cache = Field<VirtualAddress>("slab_cache")
  }

  private struct Cache: KernelShape {
    static let type = "kmem_cache"
    let name = Field<VirtualAddress>("name")
  }

  private struct Mapping: KernelShape {
    static let type = "address_space"
    let host = Field<VirtualAddress>("host")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let superBlock = Field<VirtualAddress>("i_sb")
    let entry = Field<VirtualAddress>("i_dentry.first")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<[UInt8]>("s_id")
  }

  private struct Entry: KernelShape {
    static let type = "dentry"
    // In a union without a name since 7.1.
    let link = Place("d_alias", before: "7.1", "d_u.d_alias")
    let name = Field<VirtualAddress>("d_name.name")
  }

  private let map: PageMap
  private let page: Bound<Page>, slab: Bound<Slab>, cache: Bound<Cache>, mapping: Bound<Mapping>, inode: Bound<Inode>
  private let superBlock: Bound<SuperBlock>, entry: Bound<Entry>
  private let slabType, freeType, slabFlag, reservedFlag: UInt64?
  private let image: AddressSpace.LinearRange?
  private let text: Range<UInt64>
  private let symbols: SymbolTable

  init(kernel: Kernel) throws {
    let types = kernel.types
    map = try kernel.reader()
    (page, cache, mapping, inode, superBlock, entry) = try types.bind()
    // A part of the page itself until 5.16.
    slab = try Bound(types, as: types.hasStructure("slab") ? "slab" : "page")
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
    let start = (try? map.start(in: space)) ?? map.defaultBase
    // Frames lie below 2^52, so that this does not overflow.
    let described = space.read(page, at: order.map { start + Int($0) &* page.size })
    // The first page of a compound describes all of it.
    let heads = described.map { page in
      (try? page.compound).map { PageMap.head(of: page.address, compound: $0) } ?? page.address
    }
    var slabs: [(frame: Int, page: VirtualAddress)] = []
    var files: [(frame: Int, mapping: VirtualAddress)] = []
    var results = [PageOwner](repeating: .unknown, count: order.count)
    for page in space.read(page, at: heads) {
      guard let flags = try? page.flags, let mapping = try? page.mapping, let kind = try? page.type,
        let references = try? page.references
      else { continue }
      let index = page.index
      func has(_ flag: UInt64?) -> Bool { flag.map { $0 < 64 && flags >> $0 & 1 == 1 } ?? false }
      // PG_buddy is 0x80 where types are bits that are cleared, above PAGE_TYPE_BASE.
      let isBuddy = freeType.map { UInt64(kind >> 24) == $0 } ?? (kind & 0xf000_0080 == 0xf000_0000)
      if slabType.map({ UInt64(kind >> 24) == $0 }) ?? has(slabFlag) {
        slabs.append((index, page.address))
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

  private func nameSlabs(
    _ slabs: [(frame: Int, page: VirtualAddress)], _ space: AddressSpace, _ results: inout [PageOwner]
  ) {
    let caches = space.read(cache, at: space.read(slab, at: slabs.map(\.page)).pointers(\.cache))
    let names = space.strings(at: caches.pointers(\.name))
    for (slab, name) in zip(slabs, names) { results[slab.frame] = .slab(cache: (try? name.get()) ?? []) }
  }

  private func nameFiles(
    _ files: [(frame: Int, mapping: VirtualAddress)], _ space: AddressSpace, _ results: inout [PageOwner]
  ) {
    let inodes = space.read(inode, at: space.read(mapping, at: files.map(\.mapping)).pointers(\.host))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    let links = inodes.pointers(\.entry)
    let entries = space.read(entry, at: links.map { $0.rawValue != 0 ? $0 - entry.link.offset : $0 })
    let names = space.strings(at: entries.pointers(\.name))
    for (index, file) in files.enumerated() {
      // What is mapped by no inode is memory of the kernel, such as that of a device.
      guard let number = try? inodes[index].number else {
        results[file.frame] = .kernel
        continue
      }
      results[file.frame] = .file(
        device: (try? supers[index].device) ?? [], inode: number, name: (try? names[index].get()) ?? [])
    }
  }
}
