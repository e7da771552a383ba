import CLinux
import Glibc
import Memory
import Samples

extension FuzzTarget {
  /// Files that say to be memory images: ELF core, LiME, raw.
  static let images = FuzzTarget(
    name: "images",
    seeds: {
      var core = Bytes()
      core.all += [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
      // Type core, machine x86-64, version, entry, program headers at 64, no sections, flags, sizes, two headers.
      for field: UInt16 in [4, 62, 1, 0] { core.append(field) }
      for field: UInt64 in [0, 64, 0] { core.append(field) }
      core.append(UInt32(0))
      for field: UInt16 in [64, 56, 2, 64, 0, 0] { core.append(field) }
      for (offset, address) in [(UInt64(176), UInt64(0)), (184, 0x10_0000)] {
        core.append(UInt32(1))
        core.append(UInt32(7))
        for field in [offset, address, address, 8, 8, 0] { core.append(field) }
      }
      // The same with its number of headers in section header 0, which follows the headers at 176.
      var extended = core.all
      extended[0x28] = 176
      extended.replaceSubrange(0x38..<0x3a, with: [0xff, 0xff])
      let section = [UInt8](repeating: 0, count: 0x2c) + bytes(UInt32(2)) + [UInt8](repeating: 0, count: 16)
      /// Two pages, one as it is and one of zlib.
      func kdump() -> [UInt8] {
        let block = 4096
        var file = Array("KDUMP   ".utf8) + bytes(UInt32(6)) + [UInt8](repeating: 0, count: 412)
        file +=
          bytes(UInt32(1), UInt32(block), UInt32(1), UInt32(2), UInt32(5)) + [UInt8](repeating: 0, count: block - 444)
        file += [UInt8](repeating: 0, count: 96) + bytes(UInt64(5)) + [UInt8](repeating: 0, count: block - 104)
        for _ in 0..<2 { file += [0b11000] + [UInt8](repeating: 0, count: block - 1) }
        let data = UInt64(file.count + 48)
        // zlib's form of 4096 zeros.
        let packed: [UInt8] = [
          0x78, 0x9c, 0xed, 0xc1, 0x31, 1, 0, 0, 0, 0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x0d, 0x0f, 0xa0,
        ]
        file +=
          bytes(data, UInt64(block), UInt64(0)) + bytes(data + UInt64(block)) + bytes(UInt32(packed.count), UInt32(1))
        return file + bytes(UInt64(0)) + [UInt8](repeating: 7, count: block) + packed
      }
      func lime(_ first: UInt64, _ last: UInt64, _ content: Int) -> [UInt8] {
        bytes(UInt32(0x4c69_4d45), UInt32(1)) + bytes(first, last, UInt64(0))
          + (0..<content).map { UInt8(truncatingIfNeeded: $0) }
      }
      return [
        core.all + [UInt8](1...16), lime(0x1000, 0x100f, 16) + lime(0x1000, 0x100f, 16),
        [UInt8](repeating: 7, count: 64),
        extended + section,
        // Ranges in order, in the wrong one, overlapping, at the end of all addresses, cut short; none at all.
        lime(0, 0xf, 16) + lime(0x1000, 0x1fff, 4096), lime(0x2000, 0x200f, 16) + lime(0, 0xf, 16),
        lime(0, 0x1f, 32) + lime(0x10, 0x2f, 32), lime(.max - 15, .max, 16), lime(0, 0xfff, 100), lime(8, 7, 0),
        lime(0, 0, 1) + lime(1, 1, 1) + lime(2, 2, 1),
        Array("KDUMP   ".utf8) + [UInt8](repeating: 0, count: 32), kdump(),
      ]
    },
    run: { input in
      guard !input.isEmpty else { return }
      let descriptor = grass_memfd_create("fuzz", GRASS_MEMFD_PLAIN)
      require(descriptor >= 0, "memfd_create: \(errno)")
      defer { close(descriptor) }
      require(write(descriptor, input, input.count) == input.count, "write: \(errno)")
      guard let images = try? MemoryImage.openReadable("/proc/self/fd/\(descriptor)") else { return }
      for image in images {
        // Pages that lie there compressed are read, whatever comes of it.
        let isInPlace = image is FileMemory
        var end: UInt64 = 0
        var total: UInt64 = 0
        var batch = ReadBatch<PhysicalAddress>()
        for segment in image.segments.prefix(64) {
          require(segment.start.rawValue >= end && segment.count > 0, "segments overlap: \(image.segments)")
          end = segment.start.rawValue + segment.count
          total += segment.count
          batch.add(segment.start, count: Int(min(segment.count, 4096)))
          batch.add(PhysicalAddress(end) - 1, count: 1)
          batch.add(PhysicalAddress(end) - 1, count: 2)
          batch.add(segment.start - 1, count: 1)
        }
        // A compressed page has an entry of 24 bytes at least.
        let most = UInt64(input.count) * (isInPlace ? 1 : 4096 / 24 + 1)
        require(total <= most, "\(total) bytes of memory in a file of \(input.count)")
        image.read(&batch)
        for index in image.segments.prefix(64).indices where isInPlace {
          require(batch.succeeded(4 * index) && batch.succeeded(4 * index + 1), "unreadable: \(image.segments)")
        }
        // A file that shrinks while it is mapped.
        image.prepareCache(of: MemorySegment(start: PhysicalAddress(0), count: .max))
        ftruncate(descriptor, 0)
        image.read(&batch)
        require(batch.entries.indices.allSatisfy { !batch.succeeded($0) }, "read beyond the file's end")
        ftruncate(descriptor, off_t(input.count))
      }
    })
}
