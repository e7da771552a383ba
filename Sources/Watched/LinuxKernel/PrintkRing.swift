package import Binding
import KernelInfo
package import Memory

/// The printk ring buffer as a whole: `printk_ringbuffer`.
package struct PrintkRing: KernelShape {
  package static let type = "printk_ringbuffer"
  package let countBits = Field<UInt64>("desc_ring.count_bits")
  package let descriptors = Field<VirtualAddress>("desc_ring.descs")
  package let infos = Field<VirtualAddress>("desc_ring.infos")
  package let headID = Field<UInt64>("desc_ring.head_id")
  package let tailID = Field<UInt64>("desc_ring.tail_id")
  package let sizeBits = Field<UInt64>("text_data_ring.size_bits")
  package let data = Field<VirtualAddress>("text_data_ring.data")

  package init() {}
}
