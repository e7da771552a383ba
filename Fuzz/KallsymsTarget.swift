import KernelInfo
import Memory
import Samples

extension FuzzTarget {
  /// The tables of kallsyms: their lengths, then their bytes.
  static let kallsyms = FuzzTarget(
    name: "kallsyms",
    seeds: {
      KallsymsDecoder.AddressEncoding.allCases.map { encoding in
        let writer = KallsymsWriter(
          symbols: [
            ("A", "__per_cpu_start", encoding == .absolutePerCPU ? 0 : 0xffff_ffff_9e20_0000),
            ("T", "_stext", 0xffff_ffff_9e20_0000), ("t", "init_task", 0xffff_ffff_9e20_1000),
            ("D", String(repeating: "x", count: 200), 0xffff_ffff_9e20_2000),
          ], encoding: encoding)
        return bytes(UInt16(writer.names.count), UInt16(writer.tokenTable.count), UInt16(4))
          + bytes(UInt8(encoding == .selfRelative ? 0 : 1)) + writer.names + writer.tokenTable + writer.tokenIndex
          + writer.offsets
      }
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      let lengths = (Int(input.next(UInt16.self)), Int(input.next(UInt16.self)))
      let count = Int(input.next(UInt16.self))
      let hasBase = input.next(UInt8.self) & 1 == 1
      let names = input.bytes(lengths.0)
      let tokens = input.bytes(lengths.1)
      let index = input.bytes(512)
      let offsets = input.remaining()
      let decoder = KallsymsDecoder(
        names: ByteReader(names.span.bytes), tokenTable: ByteReader(tokens.span.bytes),
        tokenIndex: ByteReader(index.span.bytes), offsets: ByteReader(offsets.span.bytes),
        offsetsAddress: VirtualAddress(0xffff_ffff_9e30_0000),
        relativeBase: hasBase ? 0xffff_ffff_9e20_0000 : nil, count: count)
      guard let table = try? decoder.decode(anchor: "_stext", at: VirtualAddress(0xffff_ffff_9e20_0000)) else { return }
      guard let start = table.address(of: "_stext") else { fatalError("decoded without its anchor") }
      _ = table.addresses(of: "init_task")
      for address in [VirtualAddress(0), start, start + 1, start - 1, VirtualAddress(.max)] {
        _ = table.symbol(containing: address)
      }
    })
}
