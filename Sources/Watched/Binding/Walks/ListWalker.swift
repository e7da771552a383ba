import KernelInfo
package import Memory
package import Paging

/// Follows linked lists of the kernel, many at once.
///
/// A chain costs a round trip a member where the memory is far away. So many chains are followed side by side, and what
/// is read is the page that holds a link: allocators put the members of a list close together, and the next link is
/// often in the same page.
package struct ListWalker: Sendable {
  /// How a list ends.
  ///
  /// Source: include/linux/list.h and list_nulls.h.
  package enum Form: Sendable {
    /// `list_head`: the last link names the head.
    case circular
    /// `hlist_node` and other chains: the last link is null.
    case nullTerminated
    /// `hlist_nulls_node` and `rhash_head`: the last link is odd.
    case nulls
  }

  /// Where a list starts: the address of its head, and the first link, which the head holds.
  package struct Start: Sendable {
    package var head: VirtualAddress
    package var first: VirtualAddress

    package init(head: VirtualAddress, first: VirtualAddress) {
      self.head = head
      self.first = first
    }
  }

  package struct Members: Sendable {
    /// The links of each list in its order; a link is what lies `next` bytes before the pointer to the one after it.
    package var lists: [[VirtualAddress]]
    /// Links that could not be read or that a list has twice, and the limit that ended the reading.
    package var faults: [MemoryFault] = []
  }

  package let space: AddressSpace
  package let form: Form
  /// How far the pointer to the next member lies from where the members' addresses lead.
  package var next = 0
  /// No more members than this of all lists together; what is left out then is a fault.
  package let limit: Int

  package init(space: AddressSpace, form: Form, next: Int = 0, limit: Int) {
    self.space = space
    self.form = form
    self.next = next
    self.limit = limit
  }

  private static let pageSize: UInt64 = 4096
  /// Pages kept for links to come: a list made to scatter must not take all memory here.
  private static let mostPages = 4096

  /// The members of the lists whose heads are at `heads`: the first word of a head names the first member.
  package func members(ofHeads heads: [VirtualAddress]) -> Members {
    var seen: Set<VirtualAddress> = []
    return members(ofHeads: heads, seen: &seen)
  }

  /// As ``members(ofHeads:)``, for lists of lists.
  ///
  /// `seen` has the links that earlier calls came to: a list that leads to one of them ends there, with a fault. They count
  /// toward the limit.
  package func members(ofHeads heads: [VirtualAddress], seen: inout Set<VirtualAddress>) -> Members {
    var batch = ReadBatch<VirtualAddress>()
    for head in heads { batch.add(head, count: 8) }
    space.read(&batch)
    var faults: [MemoryFault] = []
    var starts: [Start] = []
    for (index, head) in heads.enumerated() {
      do throws(MemoryFault) {
        starts.append(Start(head: head, first: try batch.reader(index).pointer(0)))
      } catch {
        faults.append(error)
        // An empty list of any form, so that results stay in the order of the heads.
        starts.append(Start(head: head, first: form == .circular ? head : VirtualAddress(form == .nulls ? 1 : 0)))
      }
    }
    var members = self.members(of: starts, seen: &seen)
    members.faults += faults
    return members
  }

  package func members(of starts: [Start]) -> Members {
    var seen: Set<VirtualAddress> = []
    return members(of: starts, seen: &seen)
  }

  private func members(of starts: [Start], seen: inout Set<VirtualAddress>) -> Members {
    var members = Members(lists: [[VirtualAddress]](repeating: [], count: starts.count))
    var pages: [UInt64: [UInt8]] = [:]
    var active = starts.indices.map { (list: $0, link: starts[$0].first) }
    while !active.isEmpty {
      let wanted = Set(
        active.compactMap { pageOfLink($0.link, head: starts[$0.list].head) }.filter { pages[$0] == nil })
      if pages.count + wanted.count > Self.mostPages { pages = [:] }
      var batch = ReadBatch<VirtualAddress>()
      let order = Array(wanted.prefix(Self.mostPages))
      for page in order { batch.add(VirtualAddress(page), count: Int(Self.pageSize)) }
      space.read(&batch)
      var failed: [UInt64: MemoryFault] = [:]
      for (index, page) in order.enumerated() {
        do throws(MemoryFault) {
          pages[page] = try batch.reader(index).copy()
        } catch {
          failed[page] = error
        }
      }

      var waiting: [(list: Int, link: VirtualAddress)] = []
      for (list, first) in active {
        var link = first
        while !isEnd(link, head: starts[list].head) {
          let page = pageOfLink(link, head: starts[list].head)
          guard let page else {
            members.faults.append(MemoryFault(.virtual(link), .inconsistent("a link that is not aligned")))
            break
          }
          if let fault = failed[page] {
            members.faults.append(MemoryFault(.virtual(link), fault.reason))
            break
          }
          guard let bytes = pages[page] else {
            waiting.append((list, link))
            break
          }
          guard seen.insert(link).inserted else {
            members.faults.append(MemoryFault(.virtual(link), .inconsistent("a list that comes to a member again")))
            break
          }
          guard seen.count <= limit else {
            members.faults.append(MemoryFault(.virtual(link), .inconsistent("lists of more than \(limit) members")))
            return members
          }
          members.lists[list].append(link)
          let place = Int((link + next).rawValue & (Self.pageSize - 1))
          guard let following = try? ByteReader(bytes.span.bytes).pointer(place) else { break }
          link = following
        }
      }
      active = waiting
    }
    return members
  }

  private func isEnd(_ link: VirtualAddress, head: VirtualAddress) -> Bool {
    switch form {
    case .circular: link == head
    case .nullTerminated: link.rawValue == 0
    case .nulls: link.rawValue & 1 != 0
    }
  }

  /// The page that holds the pointer to what follows `link`; nil at the list's end and where no pointer can lie.
  private func pageOfLink(_ link: VirtualAddress, head: VirtualAddress) -> UInt64? {
    let place = (link + next).rawValue
    return isEnd(link, head: head) || place & 7 != 0 ? nil : place & ~(Self.pageSize - 1)
  }
}
