import Binding
public import KernelViews

/// A BPF program that can do what monitoring does not need.
public struct BPFAbuse: Detector {
  public static let name = "bpf-abuse"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A BPF program can write into processes, change what calls return, or kill: few tools need that."
  public static let rule = """
    The instructions of a loaded program call bpf_probe_write_user, bpf_override_return or bpf_send_signal; programs are those of \
    the kernel's table.
    """
  public static let looksLike =
    "Tools of security that enforce: they are known by their tag, and are to be allowed by it."
  public static let remedy =
    "See who loaded it: grassctl lsof for bpf-prog, grassctl bpf. Keep the memory before it is unloaded."
  public static let techniques = ["T1014", "T1056"]
  public static let needsOneLook = true

  private struct Reader: KernelReader {
    static let subject = "the instructions of BPF programs"
    let instructions: Int
    let base: VirtualAddress?
    let helpers: [(name: String, what: String, address: VirtualAddress)]

    init(kernel: Kernel) throws {
      let program = try kernel.types.structure("bpf_prog")
      instructions = try program.field(program.hasField("insnsi") ? "insnsi" : "insns").offset
      // A call's number is how far the helper lies from here.
      base = kernel.symbols.address(of: "__bpf_call_base")
      helpers = [
        ("bpf_probe_write_user", "write into processes"), ("bpf_override_return", "change what functions return"),
        ("bpf_send_signal", "send signals"), ("bpf_send_signal_thread", "send signals"),
      ].compactMap { name, what in kernel.symbols.address(of: name).map { (name, what, $0) } }
    }
  }

  /// The instructions of all programs that are looked at: a million is what one may have.
  private static let most = 1 << 22

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.bpf()
    let reader = try look.kernel.reader(Reader.self)
    guard let base = reader.base, !reader.helpers.isEmpty, !table.programs.isEmpty else {
      return Sightings(faults: table.faults)
    }
    var batch = ReadBatch<VirtualAddress>()
    var faults = table.faults
    var total = 0
    for program in table.programs {
      let count = Int(program.instructions)
      let isTooLong = count > most - total
      if isTooLong {
        faults.append(MemoryFault(.virtual(program.address), .inconsistent("more instructions than programs may have")))
      } else {
        total += count
      }
      batch.add(program.address + reader.instructions, count: isTooLong ? 0 : count * 8)
    }
    look.kernel.addressSpace.read(&batch)
    var sightings: [Sighting] = []
    for (index, program) in table.programs.enumerated() {
      do throws(MemoryFault) {
        let code = try batch.reader(index)
        var uses: [String: (what: String, at: Int)] = [:]
        for position in 0..<code.count / 8 {
          let word = try code.u64(position * 8)
          // BPF_JMP | BPF_CALL of a helper: the source register says that it is no function of the program's own.
          guard word & 0xff == 0x85, word >> 12 & 0xf == 0 else { continue }
          let target = base + Int(Int32(truncatingIfNeeded: word >> 32))
          guard let helper = reader.helpers.first(where: { $0.address == target }), uses[helper.name] == nil else {
            continue
          }
          uses[helper.name] = (helper.what, position)
        }
        guard !uses.isEmpty else { continue }
        let what = Set(uses.values.map(\.what)).sorted().joined(separator: " and ")
        sightings.append(
          Sighting(
            [.program(id: program.id, name: program.name)], .warning, .proven,
            "BPF program \(program.name.isEmpty ? "" : "\(program.name.printable) ")(\(program.id)) can \(what)",
            evidence: uses.sorted { $0.key < $1.key }.map { name, use in
              .init(
                "instruction \(use.at)", at: program.address + reader.instructions + use.at * 8, symbol: name,
                seen: "a call of \(name)")
            }))
      } catch {
        faults.append(error)
      }
    }
    return Sightings(sightings, faults: faults)
  }
}
