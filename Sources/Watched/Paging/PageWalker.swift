public import Memory

/// Translates virtual addresses by reading page tables, many addresses at once and level by level.
public struct PageWalker: Sendable {
  public let memory: any PhysicalMemory
  public let format: PageTableFormat

  public init(memory: any PhysicalMemory, format: PageTableFormat) {
    self.memory = memory
    self.format = format
  }

  /// Where a virtual address lies: its physical address, and how many bytes from there on its page still holds.
  public struct Mapping: Hashable, Sendable {
    public let physical: PhysicalAddress
    public let remaining: Int
  }

  /// The outcome of each walk, in the order of `addresses`.
  ///
  /// A walk ends after as many reads as the format has levels, whatever the tables say: one that points to itself
  /// yields a mapping or a fault, never a loop. Cost: one batch a level.
  public func translate(
    _ addresses: [(address: VirtualAddress, root: PhysicalAddress)]
  ) -> [Result<Mapping, MemoryFault>] {
    var results = [Result<Mapping, MemoryFault>](
      repeating: .failure(MemoryFault(.offset(0), .absent)), count: addresses.count)
    var tables = addresses.map(\.root)
    var walking: [Int] = []
    for (index, (address, _)) in addresses.enumerated() {
      if format.isCanonical(address) {
        walking.append(index)
      } else {
        results[index] = .failure(MemoryFault(.virtual(address), .notCanonical))
      }
    }
    for level in stride(from: format.levels, through: 1, by: -1) where !walking.isEmpty {
      var batch = ReadBatch<PhysicalAddress>()
      batch.reserveCapacity(walking.count)
      for index in walking {
        batch.add(format.place(of: addresses[index].address, in: tables[index], level: level), count: 8)
      }
      memory.read(&batch)
      var next: [Int] = []
      next.reserveCapacity(walking.count)
      for (position, index) in walking.enumerated() {
        let address = addresses[index].address
        do throws(MemoryFault) {
          let entry = try batch.reader(position).u64(0)
          switch format.entry(entry, level: level) {
          case .table(let table):
            tables[index] = table
            next.append(index)
          case .page(let page):
            let size = format.coverage(level: level)
            let offset = address.rawValue & (size - 1)
            results[index] = .success(
              Mapping(physical: PhysicalAddress(page.rawValue | offset), remaining: Int(size - offset)))
          case .notPresent: throw MemoryFault(.virtual(address), .notPresent(level: level, entry: entry))
          case .impossible: throw MemoryFault(.virtual(address), .badEntry(level: level, entry: entry))
          }
        } catch {
          // A table outside the memory is the entry's fault, not the reader's; a source that failed says so itself.
          results[index] = .failure(
            error.reason == .absent
              ? MemoryFault(.virtual(address), .badEntry(level: level, entry: tables[index].rawValue)) : error)
        }
      }
      walking = next
    }
    return results
  }

  /// Reads all entries of `batch`, walking page tables for those that are virtual.
  ///
  /// Cost: one batch a level and one for the bytes; one in all where the memory translates by itself.
  public func read(_ batch: inout ReadBatch<MemoryLocation>) {
    if let translating = memory as? any TranslatingMemory {
      translating.read(&batch, format: format)
      return
    }
    // Every page that an entry touches is one walk.
    var walks: [(address: VirtualAddress, root: PhysicalAddress)] = []
    for entry in batch.entries {
      guard case .virtual(let start, let root) = entry.address else { continue }
      var done = 0
      while done < entry.count {
        let address = start + done
        walks.append((address, root))
        done += format.pageSize - Int(address.rawValue & UInt64(format.pageSize - 1))
      }
    }
    let mappings = translate(walks)

    var pieces = ReadBatch<PhysicalAddress>()
    pieces.reserveCapacity(max(batch.entries.count, walks.count))
    var owners: [Int] = []
    var faults: [Int: MemoryFault] = [:]
    var walk = 0
    for (index, entry) in batch.entries.enumerated() {
      switch entry.address {
      case .physical(let address):
        pieces.add(address, count: entry.count)
        owners.append(index)
      case .virtual(let start, _):
        var done = 0
        while done < entry.count {
          let address = start + done
          let length = min(
            entry.count - done, format.pageSize - Int(address.rawValue & UInt64(format.pageSize - 1)))
          switch mappings[walk] {
          case .success(let mapping): pieces.add(mapping.physical, count: length)
          case .failure(let fault):
            if faults[index] == nil { faults[index] = fault }
            // Keeps the pieces' bytes in step with the batch's; the preset fault hides what is read.
            pieces.add(PhysicalAddress(.max), count: length)
          }
          owners.append(index)
          walk += 1
          done += length
        }
      }
    }
    memory.read(&pieces)
    batch.adopt(pieces, owners: owners, preset: faults)
  }
}
