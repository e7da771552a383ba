import KernelInfo

extension FuzzTarget {
  /// The text of a VMCOREINFO note.
  static let coreInfo = FuzzTarget(
    name: "coreinfo",
    seeds: {
      let text = """
        OSRELEASE=6.1.0-56-amd64
        PAGESIZE=4096
        SYMBOL(_stext)=ffffffff9e200000
        SIZE(page)=64
        OFFSET(page.flags)=0
        LENGTH(zone.free_area)=11
        NUMBER(phys_base)=-343932928
        NUMBER(KERNEL_IMAGE_SIZE)=0x40000000
        NUMBER(pgtable_l5_enabled)=1
        KERNELOFFSET=1d200000

        """
      return [Array(text.utf8)]
    },
    run: { input in
      let info = VMCoreInfo(text: input)
      _ = (info.release, info.buildID, info.kernelOffset, info.physicalBase, info.hasFiveLevelPaging)
      for line in input.split(separator: UInt8(ascii: "\n")).prefix(32) {
        guard let open = line.firstIndex(of: UInt8(ascii: "(")), let close = line.lastIndex(of: UInt8(ascii: ")")),
          open < close
        else { continue }
        let name = String(decoding: line[(open + 1)..<close], as: UTF8.self)
        _ = (info.symbol(name), info.number(name), info.size(name), info.offset(name), info.length(name))
      }
    })
}
