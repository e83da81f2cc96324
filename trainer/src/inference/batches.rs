//! Batches made on a thread of their own while the model computes.

use std::sync::mpsc::{Receiver, sync_channel};

use super::Prepared;

/// How large a batch may be. A structure that alone is larger is a batch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Structures.
    pub structures: usize,
    /// Atoms.
    pub atoms: usize,
}

/// Batches ready ahead of the model.
const AHEAD: usize = 2;

/// One batch: structures with whatever belongs to each.
type Prepareds<T> = Vec<(T, Prepared)>;

/// Reads `items` on a thread and hands them on in batches, in their order. The first error comes after the items before
/// it, and ends the sequence. The thread ends when no one listens any more, or the items end.
///
/// # Errors
/// When the system gives no thread.
pub fn batches<T, E, I>(
    budget: Budget,
    items: impl FnOnce() -> I + Send + 'static,
) -> std::io::Result<Receiver<Result<Prepareds<T>, E>>>
where
    T: Send + 'static,
    E: Send + 'static,
    I: Iterator<Item = Result<(T, Prepared), E>>,
{
    let (send, receive) = sync_channel(AHEAD);
    std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let mut batch = Prepareds::new();
        let mut atoms = 0;
        for item in items() {
            let (tag, prepared) = match item {
                Ok(item) => item,
                Err(error) => {
                    if !batch.is_empty() {
                        // Whether anyone still listens is all that can go wrong, and then all is done.
                        drop(send.send(Ok(batch)));
                    }
                    drop(send.send(Err(error)));
                    return;
                }
            };
            let n = prepared.numbers.len();
            if atoms + n > budget.atoms && !batch.is_empty() {
                atoms = 0;
                if send.send(Ok(std::mem::take(&mut batch))).is_err() {
                    return;
                }
            }
            atoms += n;
            batch.push((tag, prepared));
            // At once, not when the next item comes: whoever writes the items may wait for the answers.
            if batch.len() >= budget.structures || atoms >= budget.atoms {
                atoms = 0;
                if send.send(Ok(std::mem::take(&mut batch))).is_err() {
                    return;
                }
            }
        }
        if !batch.is_empty() {
            drop(send.send(Ok(batch)));
        }
    })?;
    Ok(receive)
}

#[cfg(test)]
mod tests {
    use shards::graph::StructureGraph;

    use super::*;

    fn of_atoms(n: usize) -> Prepared {
        Prepared {
            numbers: vec![1; n],
            positions: vec![[0.0; 3]; n],
            graph: StructureGraph::default(),
            offset: 0.0,
        }
    }

    #[test]
    fn a_full_batch_does_not_wait_for_the_next_item() {
        let (ask, asked) = sync_channel::<usize>(0);
        let items = move || asked.into_iter().map(|i| Ok::<_, ()>((i, of_atoms(1))));
        let answers = batches(Budget { structures: 1, atoms: 5 }, items).unwrap();
        for question in 0..3 {
            ask.send(question).unwrap();
            let answer = answers.recv_timeout(std::time::Duration::from_secs(20)).unwrap().unwrap();
            assert_eq!(answer[0].0, question);
        }
    }

    #[test]
    fn batches_keep_order_and_budget_and_an_error_comes_last() {
        let sizes = [2, 2, 2, 9, 1, 4, 3];
        let items = move || {
            let good = sizes.into_iter().enumerate().map(|(i, n)| Ok((i, of_atoms(n))));
            good.chain([Err("bad"), Ok((99, of_atoms(1)))])
        };
        let budget = Budget { structures: 2, atoms: 5 };
        let got: Vec<Result<Vec<usize>, &str>> = batches(budget, items)
            .unwrap()
            .into_iter()
            .map(|batch| batch.map(|b| b.into_iter().map(|(i, _)| i).collect()))
            .collect();
        let want = [Ok(vec![0, 1]), Ok(vec![2]), Ok(vec![3]), Ok(vec![4, 5]), Ok(vec![6]), Err("bad")];
        assert_eq!(got, want);
    }
}
