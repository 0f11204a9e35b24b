//! Somebody gives the spread tenant a dictionary of its own, or leaves it. What was packed meanwhile must open at the end, as
//! everything else must: the check of erasures sees to that.

use rand_chacha::ChaCha12Rng;

use nethical_audit::body::pack::DICTIONARY_1;
use nethical_cluster::api::Governor;
use nethical_protocol::error::Problem;

use super::{SPREAD, Stage, in_force};

impl Stage {
    /// Its own happens to have the built-in one's bytes; bodies name it all the same.
    pub(super) async fn dictionary(&self, own: bool, dice: &mut ChaCha12Rng) -> Result<(), Problem> {
        let asked = self.administer(dice, move |governor| async move {
            let ack = match own {
                true => governor.give_dictionary(SPREAD.to_owned(), DICTIONARY_1.to_vec()).await?.ack,
                false => governor.leave_dictionary(SPREAD.to_owned()).await?,
            };
            in_force(ack)
        });
        asked.await
    }
}
