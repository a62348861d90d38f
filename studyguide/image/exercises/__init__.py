"""The exercises of chapter 05, one module per notebook."""

from studyguide.image.exercises import captioning_and_vqa, cross_modal_retrieval, fid, inception_score_and_kid

EXERCISES = (
    *fid.EXERCISES,
    *inception_score_and_kid.EXERCISES,
    *captioning_and_vqa.EXERCISES,
    *cross_modal_retrieval.EXERCISES,
)
