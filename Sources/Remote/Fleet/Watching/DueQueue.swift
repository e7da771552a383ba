/// Things in the order in which they are due: a binary heap.
struct DueQueue<Item> {
  private var heap: [(due: UInt64, item: Item)] = []

  var isEmpty: Bool { heap.isEmpty }
  /// When the first is due.
  var first: UInt64? { heap.first?.due }

  /// Cost: logarithmic.
  mutating func push(_ item: Item, due: UInt64) {
    heap.append((due, item))
    var index = heap.count - 1
    while index > 0, heap[(index - 1) / 2].due > heap[index].due {
      heap.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  /// Takes the first where it is due by then.
  ///
  /// Cost: logarithmic.
  mutating func pop(dueBy time: UInt64) -> Item? {
    guard let first = heap.first, first.due <= time else { return nil }
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      var index = 0
      while true {
        let (left, right) = (2 * index + 1, 2 * index + 2)
        var least = index
        if left < heap.count, heap[left].due < heap[least].due { least = left }
        if right < heap.count, heap[right].due < heap[least].due { least = right }
        if least == index { break }
        heap.swapAt(index, least)
        index = least
      }
    }
    return first.item
  }
}
