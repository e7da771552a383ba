/// The ELF core of a machine: QEMU's dump-guest-memory, a /proc/vmcore, makedumpfile -E; or a kernel's own file, vmlinux,
/// whose segments say as those of a core where in memory they lie.
///
/// ```
/// 0x00  7f 45 4c 46 02 01   magic, 64 bit, little endian
/// 0x10  u16 type = 4 (core) or 2 (executable), u16 machine = 62 (x86-64)
/// 0x20  u64 offset of the program headers; 0x36 u16 their size, u16 their number (0xffff: see section header 0)
/// each: u32 type (1 = load, 4 = note), u32 flags, u64 offset, vaddr, paddr, filesz, memsz, align
/// ```
/// Source: elf(5); include/uapi/linux/elf.h.
enum ELFCore {
  static let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]
  private static let format = "an ELF core"
  static let kernelFormat = "a kernel's file"
  private static let startOfKernels: UInt64 = 0xffff_ffff_8000_0000
  /// More segments than any machine has: memory that was hot-plugged block by block has some thousands.
  private static let maximumHeaders = 1 << 20
  /// A core has a few sections, if any.
  private static let mostSections = 64

  static func open(_ file: MappedFile) throws(MemoryImageError) -> FileMemory {
    func malformed(_ what: String) -> MemoryImageError { MemoryImageError(file.path, .malformed(format, what)) }
    do {
      let header = file.bytes(at: 0, count: 64)
      let elf = ByteReader(header.span.bytes)
      guard try elf.u8(4) == 2, try elf.u8(5) == 1, try elf.u16(0x12) == 62 else {
        throw MemoryImageError(
          file.path, .unsupported("an ELF file of another machine than x86-64", remedy: "give a core of one"))
      }
      // A kernel is an executable that is linked to where no other is.
      let type = try elf.u16(0x10)
      func noCore() -> MemoryImageError {
        MemoryImageError(
          file.path, .unsupported("an ELF file but not a core", remedy: "give an image of a machine's memory"))
      }
      guard type == 4 || type == 2 else { throw noCore() }
      let tableOffset = try elf.u64(0x20)
      let headerSize = Int(try elf.u16(0x36))
      var number = Int(try elf.u16(0x38))
      guard headerSize >= 56 else { throw malformed("its program headers have \(headerSize) bytes each, less than 56") }
      if number == 0xffff {
        // The real number stands in sh_info of section header 0.
        let sections = try elf.u64(0x28)
        guard sections < UInt64(file.count) else { throw malformed("its section header lies outside the file") }
        let section = file.bytes(at: Int(sections), count: 64)
        number = Int(try ByteReader(section.span.bytes).u32(0x2c))
      }
      guard number > 0, number <= maximumHeaders, tableOffset < UInt64(file.count),
        number * headerSize <= file.count - Int(tableOffset)
      else { throw malformed("its \(number) program headers do not lie in the file") }
      let table = file.bytes(at: Int(tableOffset), count: number * headerSize)
      let first = try ByteReader(table.span.bytes).u64(16)
      guard type == 4 || first >= startOfKernels else { throw noCore() }
      let memory = FileMemory(
        file: file, format: type == 4 ? format : kernelFormat,
        extents: try extents(ByteReader(table.span.bytes), number: number, headerSize: headerSize, file),
        moved: type == 4 ? section(".grass.moved", of: elf, file).flatMap { MovedFrames(record: $0) } : nil)
      // What bounds the work on an image is the size of its memory, so that must be no lie.
      guard memory.segments.reduce(0 as UInt64, { $0 &+ $1.count }) <= UInt64(file.count) else {
        throw malformed("its segments share bytes of the file: it claims more memory than it holds")
      }
      return memory
    } catch let error as MemoryImageError {
      throw error
    } catch {
      throw malformed("it ends within its headers")
    }
  }

  /// The bytes of the section of that name; nil where there is none, or none that lies in the file.
  private static func section(_ wanted: String, of elf: borrowing ByteReader, _ file: MappedFile) -> [UInt8]? {
    guard let table = try? elf.u64(0x28), let size = try? elf.u16(0x3a), let number = try? elf.u16(0x3c),
      let names = try? elf.u16(0x3e), size >= 64, number <= mostSections, names < number, table < UInt64(file.count)
    else { return nil }
    let bytes = file.bytes(at: Int(table), count: Int(size) * Int(number))
    let headers = ByteReader(bytes.span.bytes)
    func place(_ index: Int) -> (offset: Int, count: Int)? {
      guard let offset = try? headers.u64(index * Int(size) + 24), let count = try? headers.u64(index * Int(size) + 32),
        offset < UInt64(file.count), count <= UInt64(file.count) - offset
      else { return nil }
      return (Int(offset), Int(count))
    }
    guard let text = place(Int(names)) else { return nil }
    let name = Array(wanted.utf8) + [0]
    for index in 0..<Int(number) {
      guard let start = try? headers.u32(index * Int(size)), Int(start) < text.count, let found = place(index),
        file.bytes(at: text.offset + Int(start), count: min(name.count, text.count - Int(start))) == name
      else { continue }
      return file.bytes(at: found.offset, count: found.count)
    }
    return nil
  }

  private static func extents(
    _ table: borrowing ByteReader, number: Int, headerSize: Int, _ file: MappedFile
  ) throws -> [FileMemory.Extent] {
    var extents: [FileMemory.Extent] = []
    var starts: Set<UInt64> = []
    for index in 0..<number {
      let base = index * headerSize
      // Only what the file holds: memsz beyond filesz is memory that the dump left out.
      let size = try table.u64(base + 32)
      guard try table.u32(base) == 1, size > 0 else { continue }
      let offset = try table.u64(base + 8)
      let physical = try table.u64(base + 24)
      // Segments of /proc/kcore that have no physical address say so with all bits set.
      guard physical != .max else { continue }
      guard offset < UInt64(file.count), size <= UInt64(file.count) - offset else {
        throw MemoryImageError(
          file.path,
          .malformed(
            format,
            "segment \(index) (\(size) bytes at offset \(offset)) reaches beyond the file's end; was it cut short?"))
      }
      starts.insert(physical)
      extents.append(
        .init(segment: MemorySegment(start: PhysicalAddress(physical), count: size), fileOffset: Int(offset)))
    }
    guard !extents.isEmpty else { throw MemoryImageError(file.path, .malformed(format, "it holds no memory")) }
    if extents.count > 1, starts == [0] {
      throw MemoryImageError(
        file.path,
        .unsupported("the core of a process: it has no physical addresses", remedy: "give a core of a machine"))
    }
    return extents
  }
}
