import KernelViews
import Samples

extension FuzzTarget {
  private typealias Place = SyntheticLinux.Place
  private static let logOverlay = LinuxOverlay(
    SyntheticLinux(),
    areas: [
      .init(Place.log, 64), .init(Place.descriptors, 8 * 24), .init(Place.infos, 8 * 24), .init(Place.texts, 512),
      .init(SyntheticLinux.scalar("prb"), 8),
    ])
  private static let logKernel = logOverlay.openKernel()

  /// The printk ring of a small Linux, changed by the input.
  static let log = FuzzTarget(
    name: "log",
    seeds: {
      let linux = SyntheticLinux()
      func ring(_ field: String, _ bytes: [UInt8]) -> [UInt8] {
        LinuxOverlay.change(0, linux.offset("printk_ringbuffer", field), bytes)
      }
      func block(_ index: Int, _ begin: UInt64, _ next: UInt64) -> [UInt8] {
        LinuxOverlay.change(
          1, linux.descriptor(index) - Place.descriptors + linux.offset("prb_desc", "text_blk_lpos.begin"),
          bytes(begin, next))
      }
      return [
        ring("desc_ring.count_bits", bytes(UInt32(24))) + ring("text_data_ring.size_bits", bytes(UInt32(22))),
        ring("desc_ring.tail_id", bytes(UInt64(3))) + ring("desc_ring.head_id", bytes(UInt64.max)),
        // Blocks that wrap, overlap, have no text; a record's text, and its length.
        block(8, 1016, 1040) + block(9, 520, 1016) + block(10, 3, 3),
        LinuxOverlay.change(3, 8, Array("text".utf8)) + LinuxOverlay.change(2, 16, bytes(UInt16(7))),
        LinuxOverlay.change(1, 0, bytes(UInt64(8) | 1 << 62)),
      ]
    },
    run: { input in
      let kernel = logKernel
      logOverlay.with(input, batches: 100, bytes: 64 << 20) {
        guard let log = try? kernel.log() else { return }
        require(log.records.count + log.torn <= 1 << 18, "\(log.records.count) records in 8 MiB")
        let text = log.records.reduce(0) { $0 + $1.text.count }
        require(text <= SyntheticKernel.size, "\(text) bytes of text in 8 MiB")
        for record in log.records.prefix(64) { _ = record.lines }
      }
    })
}
