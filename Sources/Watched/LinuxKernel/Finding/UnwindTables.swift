import KernelInfo
package import Memory
import Paging

/// A build's tables for unwinding stacks.
///
/// They are kept beside its symbols and types (``KnownBuild``) for what is left of boots that are over, and are the same on every boot: all that they say counts from where it stands.
package struct UnwindTables: Sendable {
  /// Where each table lies in the image, counted from the image's start, and its bytes.
  private let tables: [(offset: UInt64, bytes: [UInt8])]

  /// The symbols between which they lie.
  ///
  /// Source: arch/x86/kernel/unwind_orc.c.
  private static let symbols = [
    ("orc_lookup", "orc_lookup_end"), ("__start_orc_unwind_ip", "__stop_orc_unwind_ip"),
    ("__start_orc_unwind", "__stop_orc_unwind"),
  ]
  private static let longest: UInt64 = 64 << 20

  /// Reads those of a kernel; nil where it was built without them.
  ///
  /// - Throws: ``KernelInfoError`` or ``MemoryFault`` where they cannot be read. Cost: one batch, of about 5 MB.
  package init?(of kernel: ProvenKernel) throws {
    let found = kernel.found
    guard Self.symbols.allSatisfy({ found.symbols.address(of: $0.0) != nil && found.symbols.address(of: $0.1) != nil })
    else { return nil }
    var batch = ReadBatch<PhysicalAddress>()
    var offsets: [UInt64] = []
    for (first, last) in Self.symbols {
      let range = try found.symbols.range(first, last, limit: Self.longest)
      let place = try FoundKernel.place(of: range.lowerBound, first, physicalBase: found.physicalBase)
      offsets.append(range.lowerBound.distance(from: found.imageRange.lowerBound))
      batch.add(place, count: Int(range.upperBound.distance(from: range.lowerBound)))
    }
    kernel.memory.read(&batch)
    var tables: [(offset: UInt64, bytes: [UInt8])] = []
    for (index, offset) in offsets.enumerated() { tables.append((offset, try batch.reader(index).copy())) }
    self.tables = tables
  }

  /// Memory that has them where an image has them that starts at `start`, and nothing else.
  package func memory(imageAt start: PhysicalAddress) -> SyntheticMemory {
    var memory = SyntheticMemory()
    for table in tables where !table.bytes.isEmpty {
      memory.add(table.bytes, at: PhysicalAddress(start.rawValue &+ table.offset))
    }
    return memory
  }

  // MARK: As a file

  /// "GRASSUT1", as a number.
  private static let magic: UInt64 = 0x3154_5553_5341_5247

  /// ```
  /// u64 magic, digest of all that follows (two u64); of each table u64 offset and length; the bytes of each table
  /// ```
  package var file: [UInt8] {
    var bytes: [UInt8] = []
    for table in tables {
      for number in [table.offset, UInt64(table.bytes.count)] {
        withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
      }
    }
    for table in tables { bytes += table.bytes }
    let digest = bytes.withUnsafeBytes { MemoryDigest($0) }
    return [Self.magic, digest.low, digest.high].flatMap { withUnsafeBytes(of: $0.littleEndian) { [UInt8]($0) } }
      + bytes
  }

  /// Parses a file of the kind; nil where it is none, or is damaged.
  package init?(file: [UInt8]) {
    let reader = ByteReader(file.span.bytes)
    do throws(MemoryFault) {
      guard try reader.u64(0) == Self.magic else { return nil }
      let digest = file.withUnsafeBytes { MemoryDigest(UnsafeRawBufferPointer(rebasing: $0.dropFirst(24))) }
      guard try reader.u64(8) == digest.low, try reader.u64(16) == digest.high else { return nil }
      var end = 24 + 16 * Self.symbols.count
      var tables: [(offset: UInt64, bytes: [UInt8])] = []
      for index in Self.symbols.indices {
        let (offset, length) = (try reader.u64(24 + index * 16), try reader.u64(32 + index * 16))
        guard offset < FoundKernel.imageMapSize, length <= Self.longest else { return nil }
        tables.append((offset, try reader.slice(end, count: Int(length)).copy()))
        end += Int(length)
      }
      self.tables = tables
    } catch {
      return nil
    }
  }
}

extension BuildFolder {
  /// A kernel as it was in a boot that is over: its symbols, its types, and its tables for unwinding stacks, all kept.
  ///
  /// Nothing else of its memory is there.
  ///
  /// - Parameters:
  ///   - release: the kernel's release, as `uname -r` prints it.
  ///   - buildID: its build ID; where it is empty, the release decides.
  ///   - slide: what that boot had added to the addresses of its image.
  /// - Returns: nil where no such build is kept.
  public func kernel(release: String, buildID: String, slide: UInt64) -> Kernel? {
    let builds = builds(release: release, buildID: buildID.isEmpty ? nil : buildID)
    for build in builds {
      let boot = KnownBuild.Boot(
        place: PhysicalAddress(0), physicalBase: 0, root: PhysicalAddress(0), levels: 4, slide: slide)
      guard
        let claims = try? build.claims(boot, claimant: .form, source: .kept(instead: "that boot is over")),
        case .parsed(let types, _) = claims.types,
        let start = FoundKernel.physicalAddress(claims.image.lowerBound, physicalBase: 0)
      else { continue }
      let found = FoundKernel(claims, release: release, banner: "", types: types)
      let memory = unwindTables(build.digest)?.memory(imageAt: start) ?? SyntheticMemory()
      let image = AddressSpace.LinearRange(
        start: claims.image.lowerBound, count: claims.image.upperBound.distance(from: claims.image.lowerBound),
        physical: start)
      let space = AddressSpace(
        memory: memory, format: found.pageTableFormat, root: found.rootPageTable, linearRanges: [image])
      return Kernel(ProvenKernel(memory: memory, found: found, addressSpace: space, tables: nil))
    }
    return nil
  }
}
