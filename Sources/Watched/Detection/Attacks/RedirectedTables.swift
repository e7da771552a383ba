import Binding
public import KernelViews
import Memory
import Paging

/// A process whose page tables show it another kernel than there is.
public struct RedirectedTables: Detector {
  public static let name = "redirected-tables"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "The page tables of a process map the kernel's addresses elsewhere: it runs another kernel's code or sees other data."
  public static let rule = """
    The upper half of each process's top page table (mm.pgd) has the very tables of the kernel's own (init_top_pgt), or nothing where \
    these have not reached it yet; the slot of local descriptor tables is each process's own.
    """
  public static let looksLike =
    "Nothing: all processes share the kernel's half, and both looks have to agree on the entry."
  public static let remedy =
    "Treat the host as taken over. What the process does cannot be told by the kernel's own addresses; keep the memory."
  public static let techniques = ["T1014"]
  public static let baseline = Finding.Baseline.invariant

  private struct Reader: KernelReader {
    static let subject = "the page tables of processes"

    struct Process: KernelShape {
      static let type = "mm_struct"
      let root = Field<VirtualAddress>("pgd")
    }

    let process: Bound<Process>
    let table: VirtualAddress
    /// The entry of local descriptor tables: LDT_PGD_ENTRY of arch/x86/include/asm/pgtable_64_types.h.
    let own: Int

    init(kernel: Kernel) throws {
      process = try Bound(kernel.types)
      table = try kernel.symbol("init_top_pgt", for: Self.self)
      own = kernel.addressSpace.format.levels == 5 ? 512 - 112 : 512 - 240
    }
  }

  /// The bits that say where an entry leads: present, and the number of a page.
  private static let address: UInt64 = 0x000f_ffff_ffff_f001

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    // Other machines have a root for each half.
    guard [.x86_64FourLevel, .x86_64FiveLevel].contains(look.kernel.addressSpace.format) else { return Sightings() }
    let reader = try look.kernel.reader(Reader.self)
    let space = look.kernel.addressSpace
    let table = try look.marks()
    var result = Sightings(faults: table.faults)
    var seen: Set<VirtualAddress> = []
    let leaders = table.marks.filter { $0.memory.rawValue != 0 && seen.insert($0.memory).inserted }
    result.outOf = leaders.count
    let roots = space.read(reader.process, at: leaders.map(\.memory)).pointers(\.root)
    var batch = ReadBatch<VirtualAddress>()
    let kernels = batch.add(reader.table + 2048, count: 2048)
    let first = batch.entries.count
    for root in roots { batch.add(root + 2048, count: 2048) }
    space.read(&batch)
    let expected = try KernelError.reading(Reader.subject) { () throws(MemoryFault) in
      let words = try batch.reader(kernels)
      var entries: [UInt64] = []
      for index in 0..<256 { entries.append(try words.u64(index * 8)) }
      return entries
    }
    for (number, mark) in leaders.enumerated() {
      // Of a process that has just ended.
      guard roots[number].rawValue != 0 else { continue }
      do throws(MemoryFault) {
        let words = try batch.reader(first + number)
        for index in 0..<256 where index + 256 != reader.own {
          let entry = try words.u64(index * 8)
          guard entry & 1 == 1, entry & Self.address != expected[index] & Self.address else { continue }
          let place = roots[number] + 2048 + index * 8
          result.sightings.append(
            Sighting(
              [.task(mark.task)], .critical, .proven,
              "\(mark.task.comm.printable) (\(mark.task.tid)) has another kernel mapped: entry \(index + 256) of its top page table "
                + "leads elsewhere",
              evidence: [
                .init(
                  "entry \(index + 256)", at: place, seen: "0x\(String(entry, radix: 16))",
                  expected: "0x\(String(expected[index], radix: 16)), as in init_top_pgt")
              ], persists: [entry & Self.address, UInt64(index)]))
          break
        }
      } catch {
        result.faults.append(error)
      }
    }
    return result
  }
}
