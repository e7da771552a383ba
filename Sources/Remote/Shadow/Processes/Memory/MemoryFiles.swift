import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import ProcessViews
import StorageViews
import TaskViews

/// The files /proc/PID/smaps, smaps_rollup and numa_maps.
///
/// Source: fs/proc/task_mmu.c, `show_smap`, `show_smaps_rollup`, `show_numa_map`.
struct MemoryFiles: KernelReader {
  static let subject = "the use of memory"

  /// Which lines this kernel prints.
  private let hasDirtyShare, hasMerged, hasLongEligible: Bool
  let hasNodes: Bool
  private let hugePages: HugePages

  init(kernel: Kernel) throws {
    let counts = try? kernel.types.structure("mem_size_stats")
    // From 6.0 and 6.7 on.
    hasDirtyShare = counts?.hasField("pss_dirty") ?? false
    hasMerged = counts?.hasField("ksm") ?? false
    // From 6.8 on (3485b88390b0, with huge pages of several sizes).
    hasLongEligible = kernel.symbols.address(of: "huge_anon_orders_always") != nil
    hasNodes = kernel.symbols.address(of: "show_numa_map") != nil
    hugePages = try HugePages(kernel)
  }

  // MARK: smaps

  func areas(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else { return [] }
    let use = try MemoryUse(of: memory.address, kernel)
    let mappings = try kernel.mappings(ofProcess: record.task.tgid).whole().mappings
    guard mappings.map(\.range.lowerBound.rawValue) == use.areas.map(\.range.lowerBound) else {
      throw ShadowError.unreadable("the process's areas changed meanwhile")
    }
    let hasKeys = try hasKeys(kernel)
    var text = ProcText()
    for (index, area) in use.areas.enumerated() {
      text.add(ProcessMaps.bytes([mappings[index]], vsyscall: nil))
      let size = area.file?.order.flatMap { area.flags & MappedAreas.hugetlb == 0 ? nil : 4096 &<< min($0, 30) } ?? 4096
      add(
        use.counts[index], size: UInt64(area.range.count), pageSize: size, flags: area.flags,
        isEligible: try hugePages.mayHave(area, memoryFlags: memory.flags, kernel), hasKeys: hasKeys, to: &text)
    }
    if let permissions = try VirtualCallPage.permissions(of: memory, kernel) {
      text.add(ProcessMaps.bytes([], vsyscall: permissions))
      // It belongs to no process, and so nothing of it counts. VM_READ is 1, VM_EXEC 4.
      add(
        .init(), size: 4096, pageSize: 4096, flags: permissions.hasPrefix("r") ? 5 : 4, isEligible: false,
        hasKeys: hasKeys, to: &text)
    }
    return text.bytes
  }

  private func add(
    _ count: MemoryUse.Count, size: UInt64, pageSize: UInt64, flags: UInt64, isEligible: Bool, hasKeys: Bool,
    to text: inout ProcText
  ) {
    Self.line("Size:", size, to: &text)
    Self.line("KernelPageSize:", pageSize, to: &text)
    Self.line("MMUPageSize:", pageSize, to: &text)
    addCounts(count, isSum: false, to: &text)
    text.line("THPeligible:    " + ProcText.padded(isEligible ? "1" : "0", hasLongEligible ? 8 : 1))
    // VM_PKEY_SHIFT, from arch/x86/include/asm/pkeys.h.
    if hasKeys { text.line("ProtectionKey:  " + ProcText.padded("\(flags >> 32 & 15)", 8)) }
    text.line("VmFlags: " + Self.names(of: flags))
  }

  func sum(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else { throw ShadowError.noProcess }
    let use = try MemoryUse(of: memory.address, kernel)
    let total = use.counts.reduce(into: MemoryUse.Count()) { $0 += $1 }
    let (first, last) = (use.areas.first?.range.lowerBound ?? 0, use.areas.last?.range.upperBound ?? 0)
    var text = ProcText()
    let head = "\(ProcText.hex(first, 8))-\(ProcText.hex(last, 8)) ---p 00000000 00:00 0 "
    text.line(ProcText.filled(head, 72) + " [rollup]")
    addCounts(total, isSum: true, to: &text)
    return text.bytes
  }

  /// Source: `__show_smap`.
  private func addCounts(_ count: MemoryUse.Count, isSum: Bool, to text: inout ProcText) {
    func line(_ name: String, _ bytes: UInt64) { Self.line(name, bytes, to: &text) }
    func share(_ name: String, _ value: UInt64) { line(name, value >> 12) }
    line("Rss:", count.resident)
    share("Pss:", count.share)
    if hasDirtyShare { share("Pss_Dirty:", count.dirtyShare) }
    if isSum {
      share("Pss_Anon:", count.anonymousShare)
      share("Pss_File:", count.fileShare)
      share("Pss_Shmem:", count.memoryShare)
    }
    line("Shared_Clean:", count.sharedClean)
    line("Shared_Dirty:", count.sharedDirty)
    line("Private_Clean:", count.privateClean)
    line("Private_Dirty:", count.privateDirty)
    line("Referenced:", count.referenced)
    line("Anonymous:", count.anonymous)
    if hasMerged { line("KSM:", count.merged) }
    line("LazyFree:", count.lazilyFreed)
    line("AnonHugePages:", count.hugeAnonymous)
    line("ShmemPmdMapped:", count.hugeShared)
    line("FilePmdMapped:", count.hugeFile)
    line("Shared_Hugetlb:", count.sharedHugetlb)
    line("Private_Hugetlb:", count.privateHugetlb)
    line("Swap:", count.swapped)
    share("SwapPss:", count.swappedShare)
    share("Locked:", count.lockedShare)
  }

  private static func line(_ name: String, _ bytes: UInt64, to text: inout ProcText) {
    let label = ProcText.filled(name, 16)
    text.line(
      label + (label.hasSuffix(":") ? " " : "") + ProcText.padded("\(bytes >> 10)", name.utf8.count > 15 ? 7 : 8)
        + " kB")
  }

  /// X86_FEATURE_OSPKE, from arch/x86/include/asm/cpufeatures.h: bit 4 of the capabilities' word 16.
  private func hasKeys(_ kernel: Kernel) throws -> Bool {
    let capabilities = try kernel.types.structure("cpuinfo_x86").field("x86_capability")
    guard capabilities.size >= 68 else { return false }
    let place = try kernel.symbol("boot_cpu_data", for: Self.self) + capabilities.offset + 64
    return try kernel.addressSpace.load(place, as: UInt32.self) >> 4 & 1 != 0
  }

  /// The names of flags; those of protection keys have none.
  ///
  /// Source: `show_smap_vma_flags`; bits of include/linux/mm.h.
  private static func names(of flags: UInt64) -> String {
    let known: [Int: String] = [
      0: "rd", 1: "wr", 2: "ex", 3: "sh", 4: "mr", 5: "mw", 6: "me", 7: "ms", 8: "gd", 9: "um", 10: "pf", 11: "dw",
      12: "uw", 13: "lo", 14: "io", 15: "sr", 16: "rr", 17: "dc", 18: "de", 19: "lf", 20: "ac", 21: "nr", 22: "ht",
      23: "sf", 24: "ar", 25: "wf", 26: "dd", 27: "sd", 28: "mm", 29: "hg", 30: "nh", 31: "mg", 37: "ss", 38: "ui",
      40: "dp", 41: "ui", 42: "sl",
    ]
    return (0..<64).filter { flags >> UInt64($0) & 1 != 0 && !(32...36).contains($0) }
      .map { (known[$0] ?? "??") + " " }.joined()
  }

  // MARK: numa_maps

  func nodes(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else { return [] }
    let use = try MemoryUse(of: memory.address, kernel)
    let mappings = try kernel.mappings(ofProcess: record.task.tgid).whole().mappings
    guard mappings.map(\.range.lowerBound.rawValue) == use.areas.map(\.range.lowerBound) else {
      throw ShadowError.unreadable("the process's areas changed meanwhile")
    }
    let policies = try MemoryPolicies(kernel)
    let own = try policies.ofTask(record.task.address, kernel)
    var text = ProcText()
    for (index, area) in use.areas.enumerated() {
      let (count, name) = (use.nodeCounts[index], mappings[index].name)
      let policy = area.policy.rawValue != 0 ? area.policy : own
      text.add("\(ProcText.hex(area.range.lowerBound, 8)) \(try policies.text(policy, kernel))")
      if area.file != nil {
        text.add(" file=")
        text.add(ProcText.escaped(name, "\n\t= "))
      } else if name == Array("[heap]".utf8) {
        text.add(" heap")
      } else if name == Array("[stack]".utf8) {
        text.add(" stack")
      }
      let isHuge = area.flags & MappedAreas.hugetlb != 0
      if isHuge { text.add(" huge") }
      if count.pages > 0 {
        func add(_ name: String, _ value: UInt64, if isShown: Bool) { if isShown { text.add(" \(name)=\(value)") } }
        add("anon", count.anonymous, if: count.anonymous > 0)
        add("dirty", count.dirty, if: count.dirty > 0)
        add("mapped", count.pages, if: count.pages != count.anonymous && count.pages != count.dirty)
        add("mapmax", UInt64(max(0, count.mostMappings)), if: count.mostMappings > 1)
        add("swapcache", count.swapCache, if: count.swapCache > 0)
        add("active", count.active, if: count.active < count.pages && !isHuge)
        add("writeback", count.writeback, if: count.writeback > 0)
        for (node, pages) in count.byNode.sorted(by: { $0.key < $1.key }) { text.add(" N\(node)=\(pages)") }
        let order = isHuge ? area.file?.order ?? 0 : 0
        text.add(" kernelpagesize_kB=\(4 as UInt64 &<< min(order, 30))")
      }
      text.line("")
    }
    return text.bytes
  }
}

/// From which nodes a process's memory is to come.
///
/// Source: mm/mempolicy.c, `mpol_to_str`.
private struct MemoryPolicies {
  private struct Task: KernelShape {
    static let type = "task_struct"
    let policy = Field<VirtualAddress?>(optional: "mempolicy")
  }

  private struct Policy: KernelShape {
    static let type = "mempolicy"
    let mode = Field<UInt16>("mode"), flags = Field<UInt16>("flags")
    // A single node of "prefer" beside it until 5.14.
    let nodes = Field<[UInt64]>("nodes.bits", before: "5.14, 269fbe72cded", "v.nodes.bits")
    let preferred = Field<Int16>(optional: "v.preferred_node")
  }

  private let task: Bound<Task>, policy: Bound<Policy>?

  init(_ kernel: Kernel) throws {
    task = try kernel.bound()
    policy = try? kernel.bound()
  }

  func ofTask(_ address: VirtualAddress, _ kernel: Kernel) throws -> VirtualAddress {
    try kernel.addressSpace.read(task, at: [address])[0].policy ?? VirtualAddress(0)
  }

  func text(_ address: VirtualAddress, _ kernel: Kernel) throws -> String {
    guard address.rawValue != 0, let policy else { return "default" }
    let own = kernel.addressSpace.read(policy, at: [address])[0]
    let (mode, flags) = (Int(try own.mode), try own.flags)
    // MPOL_F_MORON, from include/uapi/linux/mempolicy.h: one that the kernel made up.
    guard flags & 0x10 == 0 else { return "default" }
    let names = ["default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"]
    guard let name = names[safe: mode] else { return "unknown" }
    guard mode != 0, mode != 4 else { return name }
    var nodes = try own.nodes
    if own.shape.preferred.isPresent, mode == 1 {
      let node = try own.preferred
      // MPOL_F_LOCAL.
      guard flags & 2 == 0, (0..<1024).contains(node) else { return "local" }
      nodes = Array(repeating: 0, count: 16)
      nodes[Int(node) / 64] = 1 << UInt64(node % 64)
    }
    // MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES.
    let kind = flags & 0x8000 != 0 ? "=static" : flags & 0x4000 != 0 ? "=relative" : ""
    let list = ProcText.list(nodes, count: min(1024, nodes.count * 64))
    return name + kind + (list.isEmpty ? "" : ":" + list)
  }
}

/// Whether an area may have huge pages.
///
/// Source: mm/huge_memory.c, `hugepage_vma_check` and `__thp_vma_allowable_orders`; before 5.19 `transparent_hugepage_active`.
private struct HugePages {
  private let isKnown: Bool
  private let always, advised: Int64
  /// Whether files on disks may have them, too.
  private let hasFiles: Bool

  init(_ kernel: Kernel) throws {
    isKnown = kernel.symbols.address(of: "transparent_hugepage_flags") != nil
    always = isKnown ? try kernel.constant("TRANSPARENT_HUGEPAGE_FLAG") : 0
    advised = isKnown ? try kernel.constant("TRANSPARENT_HUGEPAGE_REQ_MADV_FLAG") : 0
    hasFiles =
      kernel.symbols.address(of: "hugepage_vma_check") != nil
      || kernel.symbols.address(of: "huge_anon_orders_always") != nil
      || kernel.symbols.address(of: "__thp_vma_allowable_orders") != nil
  }

  private static let size: UInt64 = 2 << 20

  func mayHave(_ area: MappedAreas.Area, memoryFlags: UInt64, _ kernel: Kernel) throws -> Bool {
    // VM_NOHUGEPAGE and VM_HUGEPAGE; MMF_DISABLE_THP.
    let isAdvised = area.flags & 0x2000_0000 != 0
    guard isKnown, area.flags & 0x4000_0000 == 0, memoryFlags >> 24 & 1 == 0 else { return false }
    // VM_NO_KHUGEPAGED: VM_IO, VM_DONTEXPAND, VM_PFNMAP, VM_MIXEDMAP, VM_HUGETLB.
    guard area.flags & (0x4000 | 0x4_0000 | 0x400 | 0x1000_0000 | MappedAreas.hugetlb) == 0 else { return false }
    guard area.range.upperBound >= Self.size else { return false }
    let place = (area.range.upperBound - Self.size) & ~(Self.size - 1)
    guard place >= area.range.lowerBound, place + Self.size <= area.range.upperBound else { return false }
    if !area.isAnonymous, (area.range.lowerBound >> 12 &- area.offset) & 511 != 0 { return false }
    if let file = area.file, file.swapped != nil { return try sharedMayHave(file, isAdvised, kernel) }
    let flags = try kernel.words("transparent_hugepage_flags", 1)[0]
    let isAlways = flags >> UInt64(always & 63) & 1 != 0, isOnAdvice = flags >> UInt64(advised & 63) & 1 != 0
    guard area.isAnonymous else {
      guard isAlways || isAdvised && isOnAdvice, hasFiles, let file = area.file, file.mayBeLarge else { return false }
      // VM_EXEC, and a regular file.
      return area.flags & 4 != 0 && !file.isBeingWritten && file.mode >> 12 == 0o10
    }
    guard kernel.symbols.address(of: "huge_anon_orders_always") != nil else {
      return isAlways || isAdvised && isOnAdvice
    }
    // From 6.8 on each size has a setting of its own; the largest one, of 2 MiB, stands for those that fit here.
    var orders = try kernel.words("huge_anon_orders_always", 1)[0]
    if isAdvised { orders |= try kernel.words("huge_anon_orders_madvise", 1)[0] }
    if isAlways || isAdvised && isOnAdvice { orders |= try kernel.words("huge_anon_orders_inherit", 1)[0] }
    return orders & 0x3fc != 0
  }

  /// Source: mm/shmem.c, `shmem_huge_enabled`; SHMEM_HUGE_*.
  private func sharedMayHave(_ file: MappedAreas.File, _ isAdvised: Bool, _ kernel: Kernel) throws -> Bool {
    if kernel.symbols.address(of: "shmem_huge") != nil {
      let all = Int32(truncatingIfNeeded: try kernel.words("shmem_huge", 1)[0] & 0xff)
      if Int8(truncatingIfNeeded: all) == -1 { return false }
      if Int8(truncatingIfNeeded: all) == -2 { return true }
    }
    switch file.hugePages {
    case 1: return true
    case 2: return file.size >= 2 << 20 || isAdvised
    case 3: return isAdvised
    default: return false
    }
  }
}
