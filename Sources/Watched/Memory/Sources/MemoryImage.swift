/// Opens a file as physical memory, whatever its format: a guest's shared RAM, a raw image, an ELF core, LiME, a kdump, or a driver
/// that shows this machine's own memory.
public enum MemoryImage {
  /// The ways in which the file at `path` can be read, as ``open(_:)`` says, also where its pages lie there compressed.
  ///
  /// - Throws: ``MemoryImageError`` with what the file is and what to do. Cost: a read of the file's headers; of a kdump, of a bit
  ///   for each page, and of a flattened one of its pieces' headers.
  public static func openReadable(_ path: String) throws(MemoryImageError) -> [any PhysicalMemory] {
    let file = try MappedFile(path: path)
    let magic = file.bytes(at: 0, count: 16)
    if magic.starts(with: KdumpMemory.magic) || magic.starts(with: FlattenedFile.magic) {
      return [try KdumpMemory(file)]
    }
    return try open(file)
  }

  /// The ways in which the file at `path` can be read as physical memory in its place, the most likely first.
  ///
  /// There is more than one only for a raw file so large that QEMU splits it around the hole that PCI devices take below
  /// 4 GiB: the file does not say whether and where. Whoever finds a kernel in it knows.
  ///
  /// - Throws: ``MemoryImageError`` with what the file is and what to do. Cost: a read of the file's headers.
  public static func open(_ path: String) throws(MemoryImageError) -> [FileMemory] { try open(MappedFile(path: path)) }

  private static func open(_ file: MappedFile) throws(MemoryImageError) -> [FileMemory] {
    if let ram = file.ram {
      let extents = ram.map { range in
        FileMemory.Extent(
          segment: MemorySegment(start: PhysicalAddress(UInt64(range.lowerBound)), count: UInt64(range.count)),
          fileOffset: range.lowerBound)
      }
      return [FileMemory(file: file, format: "this machine's memory", extents: extents)]
    }
    let magic = file.bytes(at: 0, count: 16)
    for (bytes, what, remedy) in foreignFormats where magic.starts(with: bytes) {
      throw MemoryImageError(file.path, .unsupported(what, remedy: remedy))
    }
    if magic.starts(with: ELFCore.magic) { return [try ELFCore.open(file)] }
    // Formats that have no place for it: it lies beside the image.
    let moved = (try? MappedFile(path: file.path + ".moved")).flatMap { beside in
      MovedFrames(record: beside.bytes(at: 0, count: beside.count))
    }
    if magic.starts(with: LiME.magic) { return [try LiME.open(file, moved)] }
    return RawLayout.candidates(size: UInt64(file.count)).map { layout in
      FileMemory(file: file, format: "raw memory, \(layout.name)", extents: layout.extents, moved: moved)
    }
  }

  /// What people have and try that is not plain memory: first bytes, what it is, and what to do about it.
  private static let foreignFormats: [([UInt8], String, String)] = [
    (
      Array("KDUMP   ".utf8), "a compressed kdump",
      "look into it with grassctl, or make an ELF core of it with grassctl dump --memory"
    ),
    (FlattenedFile.magic, "a flattened kdump", "look into it with grassctl, or make a file of it with makedumpfile -R"),
    (Array("DISKDUMP".utf8), "a diskdump", "make an ELF core of it"),
    (Array("AVML".utf8), "a compressed AVML image", "convert it to LiME with avml-convert"),
    (Array("PAGEDU64".utf8), "a Windows crash dump", "GRASS watches Linux"),
    (Array("PAGEDUMP".utf8), "a Windows crash dump", "GRASS watches Linux"),
    ([0x51, 0x46, 0x49, 0xfb], "a qcow2 disk or snapshot", "dump the guest's memory with dump-guest-memory"),
    ([0x1f, 0x8b], "compressed with gzip", "uncompress it first"),
    ([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "compressed with xz", "uncompress it first"),
    ([0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd", "uncompress it first"),
    (Array("BZh".utf8), "compressed with bzip2", "uncompress it first"),
    ([0x50, 0x4b, 0x03, 0x04], "a zip archive", "uncompress it first"),
  ]
}

/// How a machine's RAM file is laid out in physical memory.
///
/// Source: QEMU's hw/i386/pc_q35.c and pc_piix.c: above a threshold, RAM is split, the lower part ends at the hole
/// and the rest goes on at 4 GiB.
struct RawLayout: Equatable {
  let name: String
  let extents: [FileMemory.Extent]

  private static let gibibyte: UInt64 = 1 << 30
  private static let machines: [(name: String, threshold: UInt64, lower: UInt64)] = [
    ("split at 2 GiB as QEMU's q35", 0xb000_0000, 2 * gibibyte),
    ("split at 3 GiB as QEMU's pc", 0xe000_0000, 3 * gibibyte),
  ]

  static func candidates(size: UInt64) -> [RawLayout] {
    let split = machines.filter { size >= $0.threshold }.map { machine in
      RawLayout(
        name: machine.name,
        extents: [
          FileMemory.Extent(segment: MemorySegment(start: PhysicalAddress(0), count: machine.lower), fileOffset: 0),
          FileMemory.Extent(
            segment: MemorySegment(start: PhysicalAddress(4 * gibibyte), count: size - machine.lower),
            fileOffset: Int(machine.lower)),
        ])
    }
    let flat = RawLayout(
      name: "in one piece",
      extents: [.init(segment: MemorySegment(start: PhysicalAddress(0), count: size), fileOffset: 0)])
    return split + [flat]
  }
}
